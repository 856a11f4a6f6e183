"""From signs to scores: small logistic regressions over signs, read from `gate.json`.

`python -m training.gate fit` writes that file: weights, thresholds, and what they were made from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ecg.signs import AGREEMENT, LEAD_SIGNS, SCALE_FREE, Signs

GATE = Path(__file__).with_name("gate.json")
LIMIT = 4.0  # standard deviations, beyond which a sign says no more
LIMB_BREAK, LOST = 1.0, 3  # more disagreement, or leads lost, count no more
SMALLEST = -3.0  # log10 mV: less counts no less
PERFECT = 1e-4  # of which beats fall short, at least
WORST = 8.0  # logit of a lead that is not usable, below zero

OF_LEAD = SCALE_FREE
OF_RECORD = (
    "lost leads", "worst lead", "mean lead", "largest drift", "largest swing", "mean agreement",
    "limb leads' disagreement",
    "gathered",
)  # fmt: skip
_MEAN = ("agreement", "floor", "fine", "sharp", "mirrored", "kink", "tail")
_MEAN_ROWS = [LEAD_SIGNS.index(name) for name in _MEAN]
OF_ECG = (
    *(f"{name}, best lead" for name in SCALE_FREE),
    "disagreement, best lead",
    *(f"{name}, mean" for name in _MEAN),
    "beats",
    "spread",
    "gathered",
    "alike",
)


@dataclass(frozen=True)
class Score:
    """A logistic regression over clipped, standardised signs and, where given, products of any two.
    threshold_in_many: where most leads are usable."""

    centre: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    pairs: np.ndarray | None
    offset: float
    threshold: float
    threshold_in_many: float

    def logit(self, signs: np.ndarray) -> np.ndarray:
        """[...] of signs [..., sign]."""
        x = np.minimum(np.maximum((signs - self.centre) / self.scale, -LIMIT), LIMIT)
        out = x @ self.weight + self.offset
        return out if self.pairs is None else out + ((x @ self.pairs) * x).sum(axis=-1)


@dataclass(frozen=True)
class Gate:
    """lead: a lead's signal is clean; record: experts would accept the record; ecg: there is one in
    it at all; swaps: two limb electrodes are in each other's place, by the pair's name."""

    lead: Score
    record: Score
    ecg: Score
    swaps: dict[str, Score]


@lru_cache(maxsize=1)
def gate() -> Gate:
    """The scores that are served."""
    return gate_from(json.loads(GATE.read_bytes()))


def gate_from(found: dict) -> Gate:
    """From gate.json's content."""
    return Gate(
        lead=_score(found["lead"]),
        record=_score(found["record"]),
        ecg=_score(found["ecg"]),
        swaps={name: _score(one) for name, one in found["swaps"].items()},
    )


def _score(found: dict) -> Score:
    def as_array(name: str) -> np.ndarray:
        return np.array(found[name], dtype=np.float32)

    return Score(
        as_array("centre"),
        as_array("scale"),
        as_array("weight"),
        as_array("pairs") if "pairs" in found else None,
        found["offset"],
        found["threshold"],
        found.get("threshold_in_many", found["threshold"]),
    )


def ecg_signs(signs: Signs, usable: np.ndarray) -> np.ndarray:
    """[segment, OF_ECG]: of the lead whose beats agree most, and means over usable leads."""
    agreement = np.where(usable, signs.lead[..., AGREEMENT], -1)
    best = signs.lead[np.arange(len(usable)), agreement.argmax(axis=-1)]
    n = np.maximum(usable.sum(axis=-1), 1)
    mean = np.einsum("sl,slk->sk", usable.astype(np.float32), signs.lead) / n[:, None]
    out = np.empty((len(usable), len(OF_ECG)), dtype=np.float32)
    free, means = len(SCALE_FREE), len(SCALE_FREE) + 1 + len(_MEAN)
    out[:, :free] = best[:, :free]
    out[:, free] = np.log10(np.maximum(1 - best[:, AGREEMENT], PERFECT))
    out[:, free + 1 : means] = mean[:, _MEAN_ROWS]
    out[:, means:] = signs.segment
    return out


def record_signs(
    signs: Signs, clean: np.ndarray, usable: np.ndarray, lost: np.ndarray, disagreement: np.ndarray
) -> np.ndarray:
    """[segment, OF_RECORD].

    Args:
        clean: the leads' logits [segment, lead]; usable: like clean, bool.
        lost: leads of the record that are not usable, [segment].
        disagreement: of the limb leads, [segment].
    """
    logits = np.where(usable, np.minimum(np.maximum(clean, -WORST), WORST), -WORST)
    out = np.empty((len(usable), len(OF_RECORD)), dtype=np.float32)
    out[:, 0] = np.minimum(lost, LOST)
    out[:, 1] = logits.min(axis=-1)
    out[:, 2] = logits.sum(axis=-1) / logits.shape[-1]
    in_mv = np.where(usable[..., None], signs.lead[..., 12:14], SMALLEST)
    out[:, 3:5] = np.maximum(in_mv.max(axis=1), SMALLEST)
    agreement = np.where(usable, signs.lead[..., AGREEMENT], 0).sum(axis=-1)
    out[:, 5] = agreement / np.maximum(usable.sum(axis=-1), 1)
    out[:, 6] = np.minimum(disagreement, LIMB_BREAK)
    out[:, 7] = signs.segment[:, 2]
    return out
