"""Millivolts -> the integers that 16-bit formats store."""

from __future__ import annotations

import numpy as np

from ecg.errors import UnservableError

MISSING = -32_768
_DEFAULT_UV = 1.0
_DEVICES_UV = (1.25, 2.5, 4.88, 5.0, 0.5, 0.25, 0.1)
_COARSER_UV = (2.0, 5.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
_EXACT = 2e-3  # of a step: float32 mV are this near to a multiple of it


def to_counts(sig: np.ndarray, largest: int) -> tuple[float, np.ndarray]:
    """A step in uV, and `sig` [lead, time] in steps, int16 within +-`largest`; MISSING for NaN.

    The step is 1 uV, or that of the device where every sample is a multiple of it, or the least
    one that holds the samples. Errors: UnservableError where none does.
    """
    peak = 1e3 * float(np.nanmax(np.abs(sig), initial=0.0))
    usual, coarser = (
        [step for step in steps if round(peak / step) <= largest]
        for steps in ((_DEFAULT_UV, *_DEVICES_UV), _COARSER_UV)
    )
    if not usual and not coarser:
        raise UnservableError("holds voltages that no ECG has and no 16 bits hold")
    default = _DEFAULT_UV if _DEFAULT_UV in usual else coarser[0]
    step = next((step for step in usual if _is_multiple(sig, step)), default)
    counts = np.empty(sig.shape, dtype="<i2")
    for row, stored in zip(sig, counts, strict=True):
        rounded = np.rint(row.astype(np.float64) * 1e3 / step)
        stored[:] = np.where(np.isnan(rounded), MISSING, rounded)
    return step, counts


def _is_multiple(sig: np.ndarray, step: float) -> bool:
    """Of a few samples first: most steps fail there."""
    for part in (sig[:, :100], *sig):
        steps = part.astype(np.float64) * 1e3 / step
        if not (np.isnan(steps) | (np.abs(steps - np.rint(steps)) < _EXACT)).all():
            return False
    return True
