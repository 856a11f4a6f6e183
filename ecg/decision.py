"""From a network's logits to calibrated probabilities, and from segments to one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """Platt scaling and thresholds for segments of which at least `min_leads` of the eight
    independent leads are known: probability = sigmoid(slope * logit + offset), an entry an output.
    """

    lead_set: str
    min_leads: int
    slope: tuple[float, ...]
    offset: tuple[float, ...]
    threshold: tuple[float, ...]


@dataclass(frozen=True)
class RecordRule:
    """A record's probability: the mean of its `top_k` highest segments, 1 being the maximum.

    Segments with less than `min_signal_s` seconds of signal are shown but do not count.
    """

    top_k: int = 1
    min_signal_s: float = 5.0


def calibrate(
    logits: np.ndarray,
    n_leads: np.ndarray,
    calibrations: Sequence[Calibration],
    implying: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and thresholds [segment, output] of logits [segment, output].

    n_leads: how many independent leads each segment has; the calibration with the largest
    `min_leads` not above it applies. implying: see `atrial_at_least`.
    """
    sizes, slope, offset, threshold = _by_size(tuple(calibrations))
    which = np.maximum(np.searchsorted(sizes, n_leads, side="right") - 1, 0)
    probability = sigmoid(slope[which] * logits + offset[which])
    return atrial_at_least(probability, implying), threshold[which]


@lru_cache(maxsize=16)
def _by_size(calibrations: tuple[Calibration, ...]) -> tuple[np.ndarray, ...]:
    """`min_leads` in rising order, and slope, offset and threshold [calibration, output]."""
    ordered = sorted(calibrations, key=lambda c: c.min_leads)
    names = ("min_leads", "slope", "offset", "threshold")
    return tuple(np.array([getattr(c, name) for c in ordered]) for name in names)


def atrial_at_least(probability: np.ndarray, implying: Sequence[int]) -> np.ndarray:
    """The atrial substrate (output 0) made at least as probable as each output that implies it.

    Their thresholds are not below the substrate's, so an answer cannot state atrial fibrillation
    in a normal substrate.
    """
    if len(implying):
        probability = probability.copy()
        probability[:, 0] = probability[:, [0, *implying]].max(axis=1)
    return probability


def decide(
    probabilities: np.ndarray, thresholds: np.ndarray, signal_s: np.ndarray, rule: RecordRule
) -> tuple[np.ndarray, np.ndarray]:
    """A record's probability and threshold [output] from its usable segments [segment, output].

    The threshold is that of the segment with the highest probability. Where no segment is long
    enough to count by the rule, all do.
    """
    if len(probabilities) == 1:
        return probabilities[0], thresholds[0]
    counts = signal_s >= rule.min_signal_s
    if counts.any():
        probabilities, thresholds = probabilities[counts], thresholds[counts]
    order = np.argsort(-probabilities, axis=0, kind="stable")
    best = np.take_along_axis(probabilities, order[: rule.top_k], axis=0)
    return best.mean(axis=0), np.take_along_axis(thresholds, order[:1], axis=0)[0]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64)))
