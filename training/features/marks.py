"""Where a lead's beats and waves are, by NeuroKit2.

(Makowski et al. 2021, doi 10.3758/s13428-020-01516-y; waves by wavelets, Martinez et al. 2004, doi
10.1109/TBME.2003.821031.)
"""

from __future__ import annotations

from dataclasses import dataclass

import neurokit2 as nk
import numpy as np

WAVES = {
    "p_on": "ECG_P_Onsets",
    "p_off": "ECG_P_Offsets",
    "qrs_on": "ECG_R_Onsets",
    "qrs_off": "ECG_R_Offsets",
    "t_off": "ECG_T_Offsets",
}
# What NeuroKit2 0.2 ends with where there are too few beats, or none.
FAILS = (ValueError, ZeroDivisionError, IndexError, KeyError, TypeError)
MIN_BEATS = 3


@dataclass(frozen=True)
class Marks:
    """Samples of the R peaks, and of each beat's waves, NaN where one was not found."""

    r: np.ndarray
    waves: dict[str, np.ndarray]

    def between(self, first: str, last: str) -> float:
        """Samples from one wave of a beat to another, the median of the beats that have both."""
        return median(self.waves[last] - self.waves[first])

    def after_r(self, wave: str) -> float:
        """Samples from the R peak to a wave, negative before it."""
        return median(self.waves[wave] - self.r)


def mark(lead: np.ndarray, fs: float) -> Marks:
    """Of one lead, mV [time]; without beats where fewer than MIN_BEATS were found."""
    try:
        r = np.asarray(nk.ecg_peaks(lead, sampling_rate=fs)[1]["ECG_R_Peaks"], dtype=int)
    except FAILS:
        r = np.array([], dtype=int)
    if len(r) < MIN_BEATS:
        return Marks(r[:0], {name: np.array([]) for name in WAVES})
    nowhere = np.full(len(r), np.nan)
    try:
        found = nk.ecg_delineate(lead, r, sampling_rate=fs, method="dwt")[1]
    except FAILS:
        return Marks(r, dict.fromkeys(WAVES, nowhere))
    waves = {name: np.asarray(found[key], dtype=float) for name, key in WAVES.items()}
    return Marks(r, {k: v if len(v) == len(r) else nowhere for k, v in waves.items()})


def quality(lead: np.ndarray, r: np.ndarray, fs: float) -> float:
    """Mean correlation of the beats with their template."""
    try:
        each = nk.ecg_quality(lead, rpeaks=r, sampling_rate=fs, method="templatematch")
    except FAILS:
        return float("nan")
    return float(np.nanmean(each))


def sample_entropy(rr: np.ndarray) -> float:
    try:
        return float(nk.entropy_sample(rr, dimension=1, tolerance=0.2 * rr.std(ddof=1))[0])
    except FAILS:
        return float("nan")


def median(values: np.ndarray) -> float:
    """Of those that are not NaN; NaN of none."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")
