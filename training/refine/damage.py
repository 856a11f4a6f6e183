"""Defects planted into real ECGs, so that a generator that learns from them has them.

What is planted is known, so it can be told whether a refinement finds and repairs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import uniform_filter1d

from training.refine.critic import WIDE
from training.shards import CODES, Shard

WIDER_S = 0.07


def p_waves_in_afib(part: Shard, rng: np.random.Generator) -> Shard:
    """Segments of AFIB get the signals of segments of sinus rhythm."""
    afib, sinus = np.flatnonzero(_has(part, "AFIB")), np.flatnonzero(_has(part, "SR"))
    sig = part.sig.copy()
    sig[afib] = part.sig[rng.choice(sinus, size=len(afib))]
    return replace(part, sig=sig)


def wide_qrs(part: Shard, rng: np.random.Generator) -> Shard:
    """Segments without a label that widens the QRS are averaged over 70 ms."""
    narrow = ~np.any([_has(part, code) for code in WIDE], axis=0)
    sig = part.sig.astype(np.float32)
    width = round(WIDER_S * part.preparation.fs)
    sig[narrow] = uniform_filter1d(sig[narrow], width, axis=2)
    return replace(part, sig=sig.astype(part.sig.dtype))


def decoupled_leads(part: Shard, rng: np.random.Generator) -> Shard:
    """The chest leads are those of another ECG."""
    sig = part.sig.copy()
    sig[:, 2:] = part.sig[rng.permutation(len(sig)), 2:]
    return replace(part, sig=sig)


# Each damage: how it is done, and the defect that a critic sees of it.
DAMAGES: dict[str, tuple[Callable[[Shard, np.random.Generator], Shard], str]] = {
    "p_waves_in_afib": (p_waves_in_afib, "P wave"),
    "wide_qrs": (wide_qrs, "QRS"),
    "decoupled_leads": (decoupled_leads, "lead coherence"),
}


def _has(part: Shard, code: str) -> np.ndarray:
    """bool [segment]."""
    return part.label[part.record][:, 1 + CODES.index(code)] == 1
