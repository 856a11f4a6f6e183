"""Explanations: which windows of a record's deciding segment moved its atrial probability.

A segment costs some 400 copies of it, each without a window. They wait in the classifier's own
queue, a few at a time, and take turns with everybody's segments: an explanation delays a request
by a few copies, is refused where too much waits, leaves the queue at its deadline or when its
client hangs up, and never runs on the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecg.card import ClassifierCard
from ecg.decision import calibrate
from ecg.draw import STRIP_S
from ecg.errors import UnservableError
from ecg.explain import (
    METHOD,
    NAMED,
    Explanation,
    Status,
    at_random,
    importance,
    log_odds,
    most,
    one_at_a_time,
    window_of,
)
from ecg.leads import INDEPENDENT_LEADS
from ecg.prepare import count_segments, cut_some
from ecg.record import Record
from ecg.shading import Shade
from service import classify, metrics
from service.batcher import Batcher
from service.blocks import InThread, Judged
from service.classify import Copies, Item

PART = 10  # copies that go together: more than what the event loop runs itself
NOTE = (
    "How much the model's atrial log odds fall when a window of one lead gives way to a straight "
    "line, as a share of the largest change, `scale`; above 0 raised the probability. It shows "
    "what the model is sensitive to, not what causes the finding. III, aVR, aVL and aVF enter the "
    "model through I and II alone."
)

_EXPLAINED = metrics.SEGMENTS.labels("explain", "answered")
_DIGITS = 3
_FLAGS = {None: False, "0": False, "false": False, "1": True, "true": True}


def asked(flag: str | None) -> bool:
    """Whether the query's `explain` asks for one. Errors: UnservableError."""
    if flag not in _FLAGS:
        raise UnservableError("must be 1 or 0", "explain")
    return _FLAGS[flag]


async def answer(
    records: Sequence[Record],
    card: ClassifierCard,
    batcher: Batcher[Item, Judged],
    in_thread: InThread,
    deadline: float,
    at_most: int,
) -> list[dict[str, Any]]:
    """As `classify.answer`, each result with its `explanation`, null where it abstained.

    Errors: as there; UnservableError for more than `at_most` records.
    """
    if len(records) > at_most:
        raise UnservableError(
            f"at most {at_most} records a request are explained, and this one has {len(records)}: "
            "send fewer, or ask without it",
            "explain",
        )
    judged = await classify.judge(records, card, batcher, in_thread, deadline)
    found = classify.results(records, judged, card, batcher.model)
    for record, result, one in zip(records, found, judged, strict=True):
        explanation = await explain(record, one, card, batcher, in_thread, deadline)
        result["explanation"] = explanation and as_json(explanation)
    return found


async def of_print(
    record: Record,
    start_s: float | None,
    card: ClassifierCard,
    batcher: Batcher[Item, Judged],
    in_thread: InThread,
    deadline: float,
) -> tuple[Shade, float]:
    """What a print is shaded by and where it begins: at the record's deciding segment, or at
    `start_s`, and then of the deciding one among the segments that the print shows.

    Errors: as for the batcher.
    """
    if start_s is not None:
        explanation = await _of_shown(record, start_s, card, batcher, in_thread, deadline)
        return Shade(explanation), start_s
    (judged,) = await classify.judge([record], card, batcher, in_thread, deadline)
    explanation = await explain(record, judged, card, batcher, in_thread, deadline)
    begin_s = explanation.start_s if explanation else 0.0
    return Shade(explanation), max(0.0, min(begin_s, record.duration_s - STRIP_S))


async def _of_shown(
    record: Record,
    start_s: float,
    card: ClassifierCard,
    batcher: Batcher[Item, Judged],
    in_thread: InThread,
    deadline: float,
) -> Explanation | None:
    """Of a print's segments the deciding one's. None where none of them was answered."""
    batcher.check_room()
    segment_s = card.preparation.n_samples / card.preparation.fs
    first = int(start_s / segment_s)
    n = count_segments(record, card.preparation)
    last = min(n, math.ceil((start_s + STRIP_S) / segment_s))
    if first >= last:  # a remainder that is too short for a segment
        return None
    segments = await in_thread(cut_some, record, card.preparation, first, last)
    parts = [segments.part(i, i + 1) for i in range(last - first)]
    judged = await batcher(parts, [1] * len(parts), deadline)
    logits = np.concatenate([of_one for _, of_one in judged])
    whole = segments, logits
    return await explain(record, whole, card, batcher, in_thread, deadline, first)


async def explain(
    record: Record,
    judged: Judged,
    card: ClassifierCard,
    batcher: Batcher[Item, Judged],
    in_thread: InThread,
    deadline: float,
    first: int = 0,
) -> Explanation | None:
    """Of the segment with the highest atrial probability of those that decide, or None where none
    was answered; `first` is the number of the first one. Errors: as for the batcher."""
    segments, logits = judged
    usable = np.flatnonzero(segments.usable)
    if not len(usable):
        return None
    probability, threshold = _atrial(logits, segments.lead_mask[usable], card)
    row = _deciding((segments.end_s - segments.start_s)[usable], probability, card)
    at = int(usable[row])
    segment, lead_mask = segments.part(at, at + 1), segments.lead_mask[at]
    if record.is_long:  # of which no samples were kept
        which = first + at
        segment = await in_thread(cut_some, record, card.preparation, which, which + 1)
    n_windows = int(window_of(int(segments.n_valid[at]), card.fs)[-1]) + 1
    status: Status = "abnormal" if probability[row] >= threshold[row] else "normal"

    async def without(gone: np.ndarray) -> np.ndarray:
        """The copies' atrial probabilities."""
        step = min(PART, batcher.max_batch)
        items: list[Item] = [Copies(segment, gone[i : i + step]) for i in range(0, len(gone), step)]
        sizes = [min(step, len(gone) - i) for i in range(0, len(gone), step)]
        found = np.concatenate([x for _, x in await batcher(items, sizes, deadline)])
        return _atrial(found, np.repeat(lead_mask[None], len(gone), axis=0), card)[0]

    gone = one_at_a_time(lead_mask, n_windows)
    lost = importance(gone, float(log_odds(probability[row])), log_odds(await without(gone)))
    named = most(lost if status == "abnormal" else -lost, lead_mask)
    checks = await without(np.concatenate([named[None], at_random(lead_mask, n_windows)]))
    _EXPLAINED.inc()
    known = lead_mask > 0
    return Explanation(
        segment=first + at,
        start_s=float(segments.start_s[at]),
        end_s=float(segments.end_s[at]),
        leads=tuple(name for name, k in zip(INDEPENDENT_LEADS, known, strict=True) if k),
        importance=lost[known],
        status=status,
        probability=float(probability[row]),
        threshold=float(threshold[row]),
        without_named=float(checks[0]),
        without_random=float(checks[1:].mean()),
    )


def as_json(e: Explanation) -> dict[str, Any]:
    """What `/classify` says of it; `importance` is 1 or -1 where the change was `scale`."""
    scale = float(np.abs(e.importance).max())
    return {
        "method": METHOD,
        "segment": e.segment,
        "start_s": round(e.start_s, _DIGITS),
        "end_s": round(e.end_s, _DIGITS),
        "window_s": e.window_s,
        "leads": e.leads,
        "importance": np.round(e.importance / max(scale, 1e-12), _DIGITS).tolist(),
        "scale": round(scale, _DIGITS),
        "toward": e.status,
        "check": {
            "share": NAMED,
            "probability": round(e.probability, 6),
            "without_named": round(e.without_named, 6),
            "without_random": round(e.without_random, 6),
        },
        "note": NOTE,
    }


def _atrial(
    logits: np.ndarray, lead_mask: np.ndarray, card: ClassifierCard
) -> tuple[np.ndarray, np.ndarray]:
    """The atrial probability and threshold [segment] as answered; lead_mask: [segment, lead]."""
    n_leads = lead_mask.sum(axis=1)
    probability, threshold = calibrate(logits, n_leads, card.calibration, card.implying)
    return probability[:, 0], threshold[:, 0]


def _deciding(signal_s: np.ndarray, probability: np.ndarray, card: ClassifierCard) -> int:
    """The row of the highest probability among those that count by the record's rule."""
    counts = signal_s >= card.record_rule.min_signal_s
    return int(np.argmax(np.where(counts, probability, -1) if counts.any() else probability))
