"""The signal-quality gate: which leads of a segment can be trusted, and whether it is an ECG.

A lead that fails is taken out of the segment; a segment with no lead left, or with nothing like an
ECG in it, is not answered. Limits were read off PTB-XL's training folds and CinC 2017 and leave
room there (training/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, signal

from ecg.leads import LIMB_FROM_I_II, LIMB_LEADS
from ecg.record import MIN_DURATION_S
from ecg.waveform import highpass

FLAT_WINDOW_S = 0.5
FLAT_MV = 0.005  # peak to peak within a window
RAIL_MV = 2.0  # a lead clipped below this range is rather a quantised quiet one
RAIL_SHARE = 0.02  # of the samples at the extreme value
MIN_SWING_MV, MAX_SWING_MV = 0.05, 20.0  # 0.5th to 99.5th percentile, baseline removed
LIMB_POOR, LIMB_BROKEN = 0.1, 0.25  # rms that breaks the limb-lead laws, against the leads' rms
QRS_BAND_HZ = (5.0, 20.0)
MIN_KURTOSIS = 4.0  # in the QRS band: ECGs 4.4 and more, Gaussian noise 3, a sine 1.5
MIN_QRS_SHARE = 0.02  # of the rms
EDGE_S = 1.0  # at both ends, where hum that stops short rings in the filters like beats

DETAILS = {
    "missing_lead": "no sample at all",
    "gap": "samples missing for longer than 0.2 s",
    "flat_lead": "constant for at least half of a segment",
    "saturated_lead": "clipped at its largest or smallest value",
    "implausible_amplitude": f"swing outside {MIN_SWING_MV:g} to {MAX_SWING_MV:g} mV, baseline "
    "removed: check the units and the electrode",
    "limb_leads_inconsistent": "limb leads contradict each other: check the lead names",
    "not_an_ecg": "no lead shows anything like heartbeats",
}


@dataclass(frozen=True)
class Reason:
    code: str
    leads: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Quality:
    """`status` is acceptable, poor (answered with care) or unusable (not answered)."""

    status: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class SegmentQuality:
    """Which rows of a segment to trust, [lead] bool, and what was found: code -> lead names."""

    usable: np.ndarray
    found: dict[str, tuple[str, ...]]


def assess_segment(
    raw: np.ndarray, missing: np.ndarray, sig: np.ndarray, fs: float, leads: Sequence[str]
) -> SegmentQuality:
    """Judge one segment.

    Args:
        raw: mV [lead, time] as sampled, short gaps filled; missing: [lead, time], bool.
        sig: the same stretch at fs Hz, mV [lead, time].
    """
    gone = missing.all(axis=1)
    swings = highpass(sig, fs, 0.5)
    low, high = np.percentile(swings, (0.5, 99.5), axis=-1)
    swing = high - low
    flat = _flat(raw, fs * raw.shape[1] / sig.shape[1]) & ~gone
    verdicts = {
        "missing_lead": gone,
        "gap": missing.any(axis=1) & ~gone,
        "flat_lead": flat,
        "saturated_lead": _saturated(raw),
        "implausible_amplitude": ((swing < MIN_SWING_MV) | (swing > MAX_SWING_MV)) & ~flat & ~gone,
    }
    usable = ~np.logical_or.reduce(list(verdicts.values()))
    found = {
        code: tuple(leads[i] for i in np.flatnonzero(bad).tolist())
        for code, bad in verdicts.items()
        if bad.any()
    }
    limbs = [i for i, name in enumerate(leads) if name in LIMB_LEADS and usable[i]]
    disagreement = _limb_disagreement(swings[limbs], [leads[i] for i in limbs])
    if disagreement > LIMB_POOR:
        found["limb_leads_inconsistent"] = tuple(leads[i] for i in limbs)
    if disagreement > LIMB_BROKEN:
        usable[limbs] = False
    long_enough = sig.shape[1] >= MIN_DURATION_S * fs  # a pause may fill a shorter remainder
    if usable.any() and long_enough and not _has_beats(sig[usable], fs):
        found["not_an_ecg"] = tuple(leads[i] for i in np.flatnonzero(usable).tolist())
        usable[:] = False
    return SegmentQuality(usable, found)


def summarise(segments: Sequence[SegmentQuality], leads: Sequence[str]) -> Quality:
    """One verdict for the record out of its segments'."""
    reasons = []
    for code, detail in DETAILS.items():
        where = [s for s in segments if code in s.found]
        if where:
            named = {name for s in where for name in s.found[code]}
            extent = (
                ""
                if len(where) == len(segments)
                else f" ({len(where)} of {len(segments)} segments)"
            )
            reasons.append(
                Reason(code, tuple(name for name in leads if name in named), detail + extent)
            )
    if not any(s.usable.any() for s in segments):
        status = "unusable"
    else:
        status = "poor" if reasons else "acceptable"
    return Quality(status, tuple(reasons))


def _flat(raw: np.ndarray, fs: float) -> np.ndarray:
    """[lead]: at least half of the half-second windows are constant."""
    width = max(2, round(FLAT_WINDOW_S * fs))
    n_windows = raw.shape[1] // width
    if n_windows == 0:
        return np.ptp(raw, axis=1) < FLAT_MV
    windows = raw[:, : n_windows * width].reshape(raw.shape[0], n_windows, width)
    return (np.ptp(windows, axis=-1) < FLAT_MV).mean(axis=1) >= 0.5


def _saturated(raw: np.ndarray) -> np.ndarray:
    """[lead]: too many samples at exactly the highest or the lowest value of a wide range."""
    high, low = raw.max(axis=1), raw.min(axis=1)
    found = high - low > RAIL_MV
    for i in np.flatnonzero(found):
        at_rail = max(np.count_nonzero(raw[i] == high[i]), np.count_nonzero(raw[i] == low[i]))
        found[i] = at_rail > RAIL_SHARE * raw.shape[1]
    return found


def _limb_disagreement(sig: np.ndarray, leads: Sequence[str]) -> float:
    """The share of the limb leads' rms that no pair (I, II) explains; 0 with fewer than three."""
    if len(leads) < 3:
        return 0.0
    residual = sig - _explained_by_i_ii(tuple(leads)) @ sig
    return float(np.sqrt(np.mean(residual**2) / max(np.mean(sig**2), 1e-12)))


@lru_cache(maxsize=64)
def _explained_by_i_ii(leads: tuple[str, ...]) -> np.ndarray:
    """The projection [lead, lead] onto what some (I, II) gives in these leads."""
    rows = LIMB_FROM_I_II[[LIMB_LEADS.index(name) for name in leads]]
    return (rows @ np.linalg.pinv(rows)).astype(np.float32)


def _has_beats(sig: np.ndarray, fs: float) -> bool:
    """Whether some lead's QRS band is sparse: high kurtosis, and a real share of the signal."""
    edge = round(EDGE_S * fs)
    inside = slice(edge, sig.shape[-1] - edge)
    # By Fourier transform, where the ends disturb each other: less than an edge's width.
    n_fft = fft.next_fast_len(sig.shape[-1] + edge, real=True)
    from_mean = sig - sig.mean(axis=-1, keepdims=True)
    filtered = fft.irfft(fft.rfft(from_mean, n_fft) * _qrs_response(fs, n_fft), n_fft)
    band = np.asarray(filtered)[:, inside]
    squared = band * band
    power = squared.mean(axis=-1)
    kurtosis = (squared * squared).mean(axis=-1) / np.maximum(power**2, 1e-24)
    share = np.sqrt(power / np.maximum(np.var(sig[:, inside], axis=-1), 1e-24))
    return bool(np.any((kurtosis > MIN_KURTOSIS) & (share > MIN_QRS_SHARE)))


@lru_cache(maxsize=16)
def _qrs_response(fs: float, n_fft: int) -> np.ndarray:
    """Of a second-order Butterworth band-pass forwards and backwards: no phase."""
    sos = signal.butter(2, QRS_BAND_HZ, "bandpass", fs=fs, output="sos")
    _, response = signal.sosfreqz(sos, fft.rfftfreq(n_fft, 1 / fs), fs=fs)
    return (np.abs(response) ** 2).astype(np.float32)
