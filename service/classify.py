"""Records -> answers: quality gate, model, calibration, and one rule over a record's segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ecg.card import ClassifierCard
from ecg.decision import calibrate, decide
from ecg.prepare import Segments, cut
from ecg.record import Record
from ecg.statements import STATEMENTS
from service import metrics
from service.batcher import Batcher

Prepared = tuple[Record, Segments]
_DIGITS = 6


def prepare(records: Sequence[Record], card: ClassifierCard) -> list[Prepared]:
    return [(record, cut(record, card.preparation)) for record in records]


async def answer(
    prepared: Sequence[Prepared], card: ClassifierCard, batcher: Batcher, deadline: float
) -> list[dict[str, Any]]:
    """A result a record, in their order. Unusable segments are not run."""
    usable = [segments.usable for _, segments in prepared]
    if any(u.any() for u in usable):
        logits = await batcher(
            *(
                np.concatenate(
                    [getattr(s, name)[u] for (_, s), u in zip(prepared, usable, strict=True)]
                )
                for name in ("sig", "lead_mask", "n_valid")
            ),
            deadline=deadline,
        )
    else:
        logits = np.zeros((0, 1 + len(card.statements)), dtype=np.float32)
    results = []
    start = 0
    for (record, segments), u in zip(prepared, usable, strict=True):
        n = int(u.sum())
        results.append(_result(record, segments, logits[start : start + n], card))
        start += n
    return results


def _result(
    record: Record, segments: Segments, logits: np.ndarray, card: ClassifierCard
) -> dict[str, Any]:
    usable = segments.usable
    _count(segments)
    shown: list[float | None] = [None] * len(usable)
    probability: list[float | None] = [None] * (1 + len(card.statements))
    threshold = np.array(_default_calibration(card).threshold)
    present: list[bool | None] = [None] * len(probability)
    if usable.any():
        n_leads = segments.lead_mask[usable].sum(axis=1)
        by_segment, thresholds = calibrate(logits, n_leads, card.calibration, card.implying)
        signal_s = (segments.end_s - segments.start_s)[usable]
        decided, threshold = decide(by_segment, thresholds, signal_s, card.record_rule)
        probability = np.round(decided, _DIGITS).tolist()
        present = (decided >= threshold).tolist()
        for i, p in zip(np.flatnonzero(usable).tolist(), by_segment[:, 0], strict=True):
            shown[i] = round(float(p), _DIGITS)
    status = {None: "abstained", True: "abnormal", False: "normal"}[present[0]]
    return {
        "record_id": record.meta.record_id,
        "fs": record.fs,
        "leads": record.leads,
        "ignored_channels": record.meta.ignored_channels,
        "duration_s": round(record.duration_s, 3),
        "quality": asdict(segments.quality),
        "atrial_substrate": {
            "status": status,
            "probability": probability[0],
            "threshold": float(threshold[0]),
        },
        "statements": [
            {
                "code": code,
                "description": STATEMENTS[code].description,
                "probability": probability[i],
                "threshold": float(threshold[i]),
                "present": present[i],
            }
            for i, code in enumerate(card.statements, start=1)
        ],
        "segments": [
            {"start_s": round(float(start), 3), "end_s": round(float(end), 3), "probability": p}
            for start, end, p in zip(segments.start_s, segments.end_s, shown, strict=True)
        ],
    }


def _default_calibration(card: ClassifierCard):
    """That of the full twelve leads, for the threshold that an abstention reports."""
    return max(card.calibration, key=lambda c: c.min_leads)


def _count(segments: Segments) -> None:
    n_usable = int(segments.usable.sum())
    metrics.SEGMENTS.labels("classify", "answered").inc(n_usable)
    metrics.SEGMENTS.labels("classify", "unusable").inc(len(segments.usable) - n_usable)
    metrics.RECORDS.labels(segments.quality.status).inc()
    for reason in segments.quality.reasons:
        metrics.QUALITY_REASONS.labels(reason.code).inc()
