"""Faults of a lead that need no learning: constant, clipped, of an impossible size; and limb leads
that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ecg.leads import LIMB_FROM_I_II, LIMB_LEADS

FLAT_WINDOW_S = 0.5
FLAT_MV = 0.005  # peak to peak within a window
RAIL_MV = 2.0  # a lead clipped below this range is rather a quantised quiet one
RAIL_SHARE = 0.02  # of the samples at the extreme value
MIN_SWING_MV, MAX_SWING_MV = 0.05, 20.0  # between these quantiles, baseline removed
SWING = (0.005, 0.995)
EVERY, PARTS, BEYOND = 4, 25, 6
GLANCES = 5  # samples of a window that mostly show that it is not constant


def implausible(sig: np.ndarray, ptp: np.ndarray) -> np.ndarray:
    """[segment, lead]: the swing, from the 0.5th to the 99.5th percentile, is out of bounds.

    Percentiles are slow, and rarely needed: no swing is more than peak to peak (`ptp`), and none
    less than the distance from the sixth lowest to the sixth highest extreme of 25 interleaved
    parts of every fourth sample, since six samples lie at or beyond each.
    """
    n, k = sig.shape[-1], BEYOND
    if n % (EVERY * PARTS) or int(SWING[0] * (n - 1)) + 1 >= k:
        doubtful = np.ones(ptp.shape, dtype=bool)
    else:
        parts = sig[..., ::EVERY].reshape(*sig.shape[:-1], -1, PARTS)
        lows = np.sort(parts.min(axis=-2), axis=-1)[..., k - 1]
        highs = np.sort(parts.max(axis=-2), axis=-1)[..., -k]
        doubtful = (highs - lows < MIN_SWING_MV) | (ptp > MAX_SWING_MV)
    out = np.zeros(ptp.shape, dtype=bool)
    if doubtful.any():
        low, high = np.quantile(sig[doubtful], SWING, axis=-1)
        out[doubtful] = (high - low < MIN_SWING_MV) | (high - low > MAX_SWING_MV)
    return out


def flat(raw: np.ndarray, fs: float) -> np.ndarray:
    """[segment, lead]: at least half of the half-second windows are constant."""
    width = max(2, round(FLAT_WINDOW_S * fs))
    n_windows = raw.shape[-1] // width
    if n_windows == 0:
        return np.ptp(raw, axis=-1) < FLAT_MV
    windows = raw[..., : n_windows * width].reshape(*raw.shape[:-1], n_windows, width)
    glances = np.moveaxis(windows[..., :: max(1, width // GLANCES)], -1, 0)
    found = _mostly_constant(np.ascontiguousarray(glances), axis=0)
    if found.any():
        found[found] = _mostly_constant(windows[found], axis=-1)
    return found


def _mostly_constant(windows: np.ndarray, axis: int) -> np.ndarray:
    """[...] of windows [..., window], with time at `axis`."""
    swing = windows.max(axis=axis) - windows.min(axis=axis)
    return 2 * np.count_nonzero(swing < FLAT_MV, axis=-1) >= swing.shape[-1]


def saturated(raw: np.ndarray) -> np.ndarray:
    """[segment, lead]: too many samples at exactly the highest or the lowest value of a wide
    range."""
    high, low = raw.max(axis=-1), raw.min(axis=-1)
    found = high - low > RAIL_MV
    for at in zip(*np.nonzero(found), strict=True):
        row = raw[at]
        at_rail = max(np.count_nonzero(row == high[at]), np.count_nonzero(row == low[at]))
        found[at] = at_rail > RAIL_SHARE * raw.shape[-1]
    return found


def limb_disagreement(sig: np.ndarray, limbs: np.ndarray, leads: Sequence[str]) -> np.ndarray:
    """[segment]: the share of the rms of the limb leads that no pair (I, II) explains; 0 with fewer
    than three. limbs: which rows to look at, [segment, lead], bool."""
    out = np.zeros(len(sig))
    left = limbs.sum(axis=-1) >= 3
    while left.any():  # segments with the same limb leads together: mostly all
        rows = limbs[np.argmax(left)]
        alike = left & (limbs == rows).all(axis=-1)
        some = sig[np.ix_(alike, rows)]
        residual = (
            some - _explained_by_i_ii(tuple(leads[i] for i in np.flatnonzero(rows).tolist())) @ some
        )
        of_all, of_residual = (np.einsum("slt,slt->s", x, x) for x in (some, residual))
        out[alike] = np.sqrt(of_residual / np.maximum(of_all, 1e-12))
        left &= ~alike
    return out


@lru_cache(maxsize=64)
def _explained_by_i_ii(leads: tuple[str, ...]) -> np.ndarray:
    """The projection [lead, lead] onto what some (I, II) gives in these leads."""
    rows = LIMB_FROM_I_II[[LIMB_LEADS.index(name) for name in leads]]
    return (rows @ np.linalg.pinv(rows)).astype(np.float32)
