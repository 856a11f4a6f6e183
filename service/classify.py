"""Records -> answers: quality gate, model, calibration, and one rule over a record's segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from prometheus_client import Counter, Histogram

from ecg.burden import af_burden
from ecg.card import ClassifierCard
from ecg.decision import calibrate, decide
from ecg.explain import window_of, without
from ecg.prepare import Segments, count_segments, cut, cut_all
from ecg.quality import STATUSES
from ecg.record import Record
from ecg.statements import STATEMENTS
from ecg.store import Classifier
from service import metrics
from service.batcher import Batcher, ModelFailed
from service.blocks import PART, InThread, Judged, judge_by_blocks


@dataclass(frozen=True, eq=False)
class Copies:
    """Of one segment, each without its windows `gone`, bool [copy, lead, window]. They are made
    where they are run: waiting, they would take a hundred times the segment's memory."""

    segment: Segments
    gone: np.ndarray

    def made(self, fs: float) -> Segments:
        """The copies as segments."""
        names = ("lead_mask", "n_valid", "start_s", "end_s")
        n = len(self.gone)
        alike = {name: np.repeat(getattr(self.segment, name), n, axis=0) for name in names}
        windows = window_of(int(self.segment.n_valid[0]), fs)
        sig = without(self.segment.sig[0], self.gone, windows)
        return replace(self.segment, sig=sig, **alike)


# A short record waits for its run as it came, and is prepared there together with others; one of
# minutes is prepared beforehand, and its segments wait, a few at a time; one of hours is prepared
# and judged by blocks, and never more of it held.
Item = Record | Segments | Copies
FEW = 8  # records of ten seconds or so

_ANSWERED = metrics.SEGMENTS.labels("classify", "answered")
_UNUSABLE = metrics.SEGMENTS.labels("classify", "unusable")
SUBSTRATE = {None: "abstained", True: "abnormal", False: "normal"}
_DIGITS = 6
AFIB = "AFIB"


def prepare_few(card: ClassifierCard, items: Sequence[Item]) -> Sequence[Item]:
    """The records of a small batch prepared, a large batch as it is. For the event loop: NumPy lets
    go of the interpreter in each of its many short steps, and a thread must win it back from a busy
    loop each time."""
    if len(items) > FEW or any(isinstance(item, Copies) for item in items):
        return items
    return _prepared(card, items)


def run(classifier: Classifier, items: Sequence[Item]) -> list[Judged]:
    """What the model makes of each item's usable segments. Errors: ModelFailed."""
    found = _prepared(classifier.card, items)
    usable = [segments.usable for segments in found]
    n_usable = [int(rows.sum()) for rows in usable]
    if not any(n_usable):
        empty = np.zeros((0, 1 + len(classifier.card.statements)), dtype=np.float32)
        return [(segments, empty) for segments in found]
    sig, lead_mask, n_valid = (
        np.concatenate([getattr(s, name)[u] for s, u in zip(found, usable, strict=True)])
        for name in ("sig", "lead_mask", "n_valid")
    )
    logits = classifier.logits(sig, lead_mask, n_valid)
    if not np.isfinite(logits).all():
        raise ModelFailed
    # Of copies, what is kept until the last one is run is the segment that they are of.
    own = [
        item.segment if isinstance(item, Copies) else segments
        for item, segments in zip(items, found, strict=True)
    ]
    return list(zip(own, np.split(logits, np.cumsum(n_usable)[:-1]), strict=True))


def _prepared(card: ClassifierCard, items: Sequence[Item]) -> list[Segments]:
    cut_now = iter(cut_all([i for i in items if isinstance(i, Record)], card.preparation))
    found: list[Segments] = []
    for item in items:
        match item:
            case Record():
                found.append(next(cut_now))
            case Copies():
                found.append(item.made(card.fs))
            case _:
                found.append(item)
    return found


async def answer(
    records: Sequence[Record],
    card: ClassifierCard,
    batcher: Batcher[Item, Judged],
    in_thread: InThread,
    deadline: float,
) -> list[dict[str, Any]]:
    """A result a record, in their order; arguments and errors as for `judge`."""
    judged = await judge(records, card, batcher, in_thread, deadline)
    if any(record.is_long for record in records):
        return await in_thread(results, records, judged, card, batcher.model)
    return results(records, judged, card, batcher.model)


async def judge(
    records: Sequence[Record],
    card: ClassifierCard,
    batcher: Batcher[Item, Judged],
    in_thread: InThread,
    deadline: float,
) -> list[Judged]:
    """What the model makes of each record, in their order; `in_thread(work, *args)` runs what is
    slow beside the loop. Of a record of hours the samples are left out. Errors: as for the
    batcher."""
    short = [record for record in records if not record.is_long]
    judged = iter(await _judged(short, card, batcher, in_thread, deadline) if short else ())
    return [
        await judge_by_blocks(record, card.preparation, batcher, in_thread, deadline)
        if record.is_long
        else next(judged)
        for record in records
    ]


async def _judged(
    records: Sequence[Record],
    card: ClassifierCard,
    batcher: Batcher[Item, Judged],
    in_thread: InThread,
    deadline: float,
) -> list[Judged]:
    """All records' segments at once."""
    items: list[Item] = []
    sizes: list[int] = []
    rows: list[slice] = []  # each record's items
    whole: dict[int, Segments] = {}  # of the records of minutes
    for k, record in enumerate(records):
        n = count_segments(record, card.preparation)
        first = len(items)
        if n <= batcher.max_batch:
            items.append(record)
            sizes.append(n)
        else:
            batcher.check_room(n)
            whole[k] = await in_thread(cut, record, card.preparation)
            step = min(PART, batcher.max_batch)
            items += [whole[k].part(i, i + step) for i in range(0, n, step)]
            sizes += [min(step, n - i) for i in range(0, n, step)]
        rows.append(slice(first, len(items)))
    judged = await batcher(items, sizes, deadline)
    return [
        (
            whole[k] if k in whole else judged[part.start][0],
            np.concatenate([x for _, x in judged[part]]),
        )
        for k, part in enumerate(rows)
    ]


def results(
    records: Sequence[Record], judged: Sequence[Judged], card: ClassifierCard, model: str
) -> list[dict[str, Any]]:
    """A result a record: calibrated together, decided one by one. `model`: the metrics' name."""
    usable = [segments.usable for segments, _ in judged]
    n_leads = np.concatenate(
        [s.lead_mask[u].sum(axis=1) for (s, _), u in zip(judged, usable, strict=True)]
    )
    logits = np.concatenate([logits for _, logits in judged])
    by_segment, thresholds = calibrate(logits, n_leads, card.calibration, card.implying)
    found = []
    counters = _counters(model)
    start = 0
    for record, (segments, own), u in zip(records, judged, usable, strict=True):
        rows = slice(start, start + len(own))
        one = _result(record, segments, u, by_segment[rows], thresholds[rows], card)
        _count(segments, len(own), one["atrial_substrate"], counters)
        found.append(one)
        start += len(own)
    return found


def _result(
    record: Record,
    segments: Segments,
    usable: np.ndarray,
    by_segment: np.ndarray,
    thresholds: np.ndarray,
    card: ClassifierCard,
) -> dict[str, Any]:
    """by_segment, thresholds: [usable segment, output]."""
    shown: list[float | None] = [None] * len(usable)
    n_outputs = 1 + len(card.statements)
    probability: list[float | None] = [None] * n_outputs
    present: list[bool | None] = [None] * n_outputs
    if len(by_segment):
        signal_s = (segments.end_s - segments.start_s)[usable]
        decided, at = decide(by_segment, thresholds, signal_s, card.record_rule)
        probability = np.round(decided, _DIGITS).tolist()
        present = (decided >= at).tolist()
        threshold = at.tolist()
        for i, p in zip(np.flatnonzero(usable).tolist(), by_segment[:, 0].tolist(), strict=True):
            shown[i] = round(p, _DIGITS)
    else:  # an abstention reports those of the full twelve leads
        threshold = max(card.calibration, key=lambda c: c.min_leads).threshold
    extra, of_segments = _burden(segments, usable, by_segment, thresholds, card)
    status = SUBSTRATE[present[0]]
    return {
        "record_id": record.meta.record_id,
        "fs": record.fs,
        "leads": record.leads,
        "ignored_channels": record.meta.ignored_channels,
        "duration_s": round(record.duration_s, 3),
        "quality": segments.quality,
        "atrial_substrate": {
            "status": status,
            "probability": probability[0],
            "threshold": threshold[0],
        },
        "statements": [
            {
                "code": code,
                "description": STATEMENTS[code].description,
                "probability": p,
                "threshold": at_least,
                "present": said,
            }
            for code, p, at_least, said in zip(
                card.statements, probability[1:], threshold[1:], present[1:], strict=True
            )
        ],
        "segments": [
            {"start_s": round(start, 3), "end_s": round(end, 3), "probability": p, **more}
            for start, end, p, more in zip(
                segments.start_s.tolist(), segments.end_s.tolist(), shown, of_segments, strict=True
            )
        ],
        **extra,
    }


def _burden(
    segments: Segments,
    usable: np.ndarray,
    by_segment: np.ndarray,
    thresholds: np.ndarray,
    card: ClassifierCard,
) -> tuple[dict[str, Any], list[dict[str, float | None]]]:
    """What AFIB adds to an answer and to each of its segments, where there are several; nothing
    where the card does not know it."""
    n = len(usable)
    if n < 2 or AFIB not in card.statements:
        return {}, [{}] * n
    output = 1 + card.statements.index(AFIB)
    af, analysed = np.zeros(n, dtype=bool), usable.copy()
    af[usable] = by_segment[:, output] >= thresholds[:, output]
    analysed &= segments.end_s - segments.start_s >= card.record_rule.min_signal_s
    shown: list[float | None] = [None] * n
    for i, p in zip(np.flatnonzero(usable).tolist(), by_segment[:, output].tolist(), strict=True):
        shown[i] = round(p, _DIGITS)
    burden = af_burden(segments.start_s, segments.end_s, af, analysed)
    return {"af_burden": burden}, [{"af": p} for p in shown]


@dataclass(frozen=True)
class _Counters:
    """A model's: records by quality and substrate, and the atrial probability."""

    records: dict[tuple[str, str], Counter]
    probability: Histogram


@cache
def _counters(model: str) -> _Counters:
    """Looked up once: a series is there, at 0, before its first event."""
    records = {
        (quality, substrate): metrics.RECORDS.labels(model, quality, substrate)
        for quality in STATUSES
        for substrate in SUBSTRATE.values()
    }
    return _Counters(records, metrics.PROBABILITY.labels(model))


def _count(
    segments: Segments, n_usable: int, substrate: dict[str, Any], counters: _Counters
) -> None:
    _ANSWERED.inc(n_usable)
    if n_usable < len(segments.n_valid):
        _UNUSABLE.inc(len(segments.n_valid) - n_usable)
    counters.records[segments.quality.status, substrate["status"]].inc()
    if (probability := substrate["probability"]) is not None:
        counters.probability.observe(probability)
    for reason in segments.quality.reasons:
        metrics.QUALITY_REASONS.labels(reason.code).inc()
