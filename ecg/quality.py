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
MIN_SWING_MV, MAX_SWING_MV = 0.05, 20.0  # between these quantiles, baseline removed
SWING = (0.005, 0.995)
LIMB_POOR, LIMB_BROKEN = 0.1, 0.25  # rms that breaks the limb-lead laws, against the leads' rms
QRS_BAND_HZ = (5.0, 20.0)
MIN_KURTOSIS = 4.0  # in the QRS band: ECGs 4.4 and more, Gaussian noise 3, a sine 1.5
MIN_QRS_SHARE = 0.02  # of the rms
PARTS, BEYOND = 50, 6
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


STATUSES = ("acceptable", "poor", "unusable")


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


def assess_segments(
    raw: np.ndarray, missing: np.ndarray, sig: np.ndarray, fs: float, leads: Sequence[str]
) -> list[SegmentQuality]:
    """Judge segments of one length.

    Args:
        raw: mV [segment, lead, time] as sampled, short gaps filled; missing: like raw, bool.
        sig: the same stretches at fs Hz, mV [segment, lead, time].
    """
    nowhere = np.zeros(raw.shape[:2], dtype=bool)
    gone, gap = nowhere, nowhere
    if missing.any():
        gone = missing.all(axis=-1)
        gap = missing.any(axis=-1) & ~gone
    swings = highpass(sig, fs, 0.5)
    low, high = swings.min(axis=-1), swings.max(axis=-1)
    flat = _flat(raw, fs * raw.shape[-1] / sig.shape[-1]) & ~gone
    implausible = _implausible(swings, high - low) & ~flat & ~gone
    saturated = _saturated(raw)
    usable = ~(gone | gap | flat | saturated | implausible)
    limb = np.array([name in LIMB_LEADS for name in leads])
    limbs = usable & limb
    disagreement = _limb_disagreement(swings, limbs, leads)[:, None]
    inconsistent = limbs & (disagreement > LIMB_POOR)
    usable &= ~(limbs & (disagreement > LIMB_BROKEN))
    beatless = nowhere
    if sig.shape[-1] >= MIN_DURATION_S * fs:  # a pause may fill a shorter remainder
        beatless = usable & ~_have_beats(sig, usable, high - low, fs)[:, None]
        usable &= ~beatless
    verdicts = {
        "missing_lead": gone,
        "gap": gap,
        "flat_lead": flat,
        "saturated_lead": saturated,
        "implausible_amplitude": implausible,
        "limb_leads_inconsistent": inconsistent,
        "not_an_ecg": beatless,
    }
    seen = {code: bad for code, bad in verdicts.items() if bad.any()}
    return [
        SegmentQuality(
            usable[i],
            {code: _named(bad[i], leads) for code, bad in seen.items() if bad[i].any()},
        )
        for i in range(len(sig))
    ]


def _named(rows: np.ndarray, leads: Sequence[str]) -> tuple[str, ...]:
    return tuple(leads[i] for i in np.flatnonzero(rows).tolist())


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


def _implausible(sig: np.ndarray, ptp: np.ndarray) -> np.ndarray:
    """[segment, lead]: the swing, from the 0.5th to the 99.5th percentile, is out of bounds.

    Percentiles are slow, and rarely needed: no swing is more than peak to peak (`ptp`), and none
    less than the distance from the sixth lowest to the sixth highest extreme of fifty interleaved
    parts, since six samples lie at or beyond each.
    """
    n, k = sig.shape[-1], BEYOND
    if n % PARTS or int(SWING[0] * (n - 1)) + 1 >= k:
        doubtful = np.ones(ptp.shape, dtype=bool)
    else:
        parts = sig.reshape(*sig.shape[:-1], -1, PARTS)
        lows = np.sort(parts.min(axis=-2), axis=-1)[..., k - 1]
        highs = np.sort(parts.max(axis=-2), axis=-1)[..., -k]
        doubtful = (highs - lows < MIN_SWING_MV) | (ptp > MAX_SWING_MV)
    out = np.zeros(ptp.shape, dtype=bool)
    if doubtful.any():
        low, high = np.quantile(sig[doubtful], SWING, axis=-1)
        out[doubtful] = (high - low < MIN_SWING_MV) | (high - low > MAX_SWING_MV)
    return out


def _flat(raw: np.ndarray, fs: float) -> np.ndarray:
    """[segment, lead]: at least half of the half-second windows are constant."""
    width = max(2, round(FLAT_WINDOW_S * fs))
    n_windows = raw.shape[-1] // width
    if n_windows == 0:
        return np.ptp(raw, axis=-1) < FLAT_MV
    windows = raw[..., : n_windows * width].reshape(*raw.shape[:-1], n_windows, width)
    swing = windows.max(axis=-1) - windows.min(axis=-1)
    return (swing < FLAT_MV).mean(axis=-1) >= 0.5


def _saturated(raw: np.ndarray) -> np.ndarray:
    """[segment, lead]: too many samples at exactly the highest or the lowest value of a wide
    range."""
    high, low = raw.max(axis=-1), raw.min(axis=-1)
    found = high - low > RAIL_MV
    for at in zip(*np.nonzero(found), strict=True):
        row = raw[at]
        at_rail = max(np.count_nonzero(row == high[at]), np.count_nonzero(row == low[at]))
        found[at] = at_rail > RAIL_SHARE * raw.shape[-1]
    return found


def _limb_disagreement(sig: np.ndarray, limbs: np.ndarray, leads: Sequence[str]) -> np.ndarray:
    """[segment]: the share of the rms of the limb leads that no pair (I, II) explains; 0 with fewer
    than three. limbs: which rows to look at, [segment, lead], bool."""
    out = np.zeros(len(sig))
    left = limbs.sum(axis=-1) >= 3
    while left.any():  # segments with the same limb leads together: mostly all
        rows = limbs[np.argmax(left)]
        alike = left & (limbs == rows).all(axis=-1)
        some = sig[np.ix_(alike, rows)]
        residual = some - _explained_by_i_ii(_named(rows, leads)) @ some
        of_all, of_residual = (np.einsum("slt,slt->s", x, x) for x in (some, residual))
        out[alike] = np.sqrt(of_residual / np.maximum(of_all, 1e-12))
        left &= ~alike
    return out


@lru_cache(maxsize=64)
def _explained_by_i_ii(leads: tuple[str, ...]) -> np.ndarray:
    """The projection [lead, lead] onto what some (I, II) gives in these leads."""
    rows = LIMB_FROM_I_II[[LIMB_LEADS.index(name) for name in leads]]
    return (rows @ np.linalg.pinv(rows)).astype(np.float32)


def _have_beats(sig: np.ndarray, usable: np.ndarray, swing: np.ndarray, fs: float) -> np.ndarray:
    """[segment]: whether a usable lead's QRS band is sparse; true where no lead is usable.

    The lead with the largest swing mostly answers; the others are looked at where it does not.
    """
    likely = np.argmax(np.where(usable, swing, -1.0), axis=-1)
    beats = _sparse(sig[np.arange(len(sig)), likely], fs) | ~usable.any(axis=-1)
    for i in np.flatnonzero(~beats):
        beats[i] = _sparse(sig[i, usable[i]], fs).any()
    return beats


def _sparse(sig: np.ndarray, fs: float) -> np.ndarray:
    """[row] of sig [row, time]: high kurtosis in the QRS band, and a real share of the signal."""
    edge = round(EDGE_S * fs)
    inside = slice(edge, sig.shape[-1] - edge)
    # By Fourier transform, where the ends disturb each other: less than an edge's width.
    n_fft = fft.next_fast_len(sig.shape[-1] + edge, real=True)
    from_mean = sig - sig.mean(axis=-1, keepdims=True)
    filtered = fft.irfft(fft.rfft(from_mean, n_fft) * _qrs_response(fs, n_fft), n_fft)
    band = np.asarray(filtered)[:, inside]
    squared = band * band
    power = squared.mean(axis=-1)
    kurtosis = np.einsum("rt,rt->r", squared, squared) / squared.shape[-1]
    sparse = kurtosis > MIN_KURTOSIS * np.maximum(power**2, 1e-24)
    variance = np.var(sig[:, inside], axis=-1)
    return sparse & (power > MIN_QRS_SHARE**2 * np.maximum(variance, 1e-24))


@lru_cache(maxsize=16)
def _qrs_response(fs: float, n_fft: int) -> np.ndarray:
    """Of a second-order Butterworth band-pass forwards and backwards: no phase."""
    sos = signal.butter(2, QRS_BAND_HZ, "bandpass", fs=fs, output="sos")
    _, response = signal.sosfreqz(sos, fft.rfftfreq(n_fft, 1 / fs), fs=fs)
    return (np.abs(response) ** 2).astype(np.float32)
