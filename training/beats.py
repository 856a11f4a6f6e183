"""What is measured of an ECG by its mean beat: rhythm, intervals, amplitudes, spectrum.

As electrocardiographs do it: one representative beat of all leads together, whose waves are cleaner
than any single beat's, and boundaries common to all leads (Kligfield et al. 2007, doi
10.1161/CIRCULATIONAHA.106.180200).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal

from ecg.leads import INDEPENDENT_LEADS
from training.ldm.heart_rate import qrs_complexes

FINER = 4  # 100 Hz gives 10 ms: intervals are read off the interpolated signal
BEFORE_S, AFTER_S = 0.40, 0.60  # of a beat's QRS, at most
ALIKE = 0.8  # correlation with the median beat; extrasystoles have less
BANDS_HZ = ((0.5, 5), (5, 15), (15, 25), (25, 40), (40, 50))
LEAD = {name: i for i, name in enumerate(INDEPENDENT_LEADS)}

RHYTHM = ("heart_rate", "rr_irregularity")
INTERVALS = ("p_wave_uv", "pr_ms", "qrs_ms", "qt_ms", "qtc_ms")
SIZES = ("sokolow_mv", "cornell_mv")
AMPLITUDES = tuple(f"{wave}_{lead}_mv" for wave in "RST" for lead in INDEPENDENT_LEADS)
SPECTRUM = tuple(f"power_{low:g}_{high:g}_db" for low, high in BANDS_HZ)
MEASURES = (*RHYTHM, *INTERVALS, *SIZES, *AMPLITUDES, *SPECTRUM)


@dataclass(frozen=True)
class Beat:
    """`sig` mV [lead, time] at `fs` Hz, its QRS at sample `at`; `times` of all QRS complexes, s."""

    sig: np.ndarray
    fs: float
    at: int
    times: np.ndarray


def measure_all(sig: np.ndarray, fs: float) -> np.ndarray:
    """float [n, MEASURES] of mV [n, 8, time]; NaN is what cannot be measured."""
    found = [measure(one, fs) for one in sig]
    return np.array([[one[name] for name in MEASURES] for one in found])


def measure(sig: np.ndarray, fs: float) -> dict[str, float]:
    """Every one of MEASURES, of mV [8, time]."""
    sig = np.asarray(sig, dtype=float)
    found = dict.fromkeys(MEASURES, float("nan")) | _spectrum(sig, fs)
    beat = median_beat(sig, fs)
    if beat is None:
        return found
    rr = np.diff(beat.times)
    found["heart_rate"] = 60 / float(np.median(rr))
    found["rr_irregularity"] = irregularity(rr)
    return found | _waves(beat, float(np.median(rr)))


def irregularity(rr: np.ndarray) -> float:
    """Of intervals between beats: the mean change from one to the next, against their median. A
    lone early beat and its pause count for three changes, so the largest fifth is left out."""
    change = np.sort(np.abs(np.diff(rr)))
    if len(change) < 3:
        return float("nan")
    return float(change[: max(3, round(0.8 * len(change)))].mean() / np.median(rr))


def median_beat(sig: np.ndarray, fs: float) -> Beat | None:
    """None where fewer than four complexes are found."""
    peaks = qrs_complexes(sig, fs)
    if len(peaks) < 4:
        return None
    fine = signal.resample_poly(sig, FINER, 1, axis=1)
    fs, at = fs * FINER, peaks * FINER
    rr = float(np.median(np.diff(at))) / fs
    before = round(min(BEFORE_S, 0.5 * rr) * fs)
    after = round(min(AFTER_S, 0.65 * rr) * fs)
    reach = round(0.06 * fs)
    core = slice(max(0, before - round(0.1 * fs)), before + round(0.12 * fs))
    beats = []
    for _ in range(2):
        inside = (at >= before + reach) & (at < fine.shape[1] - after - reach)
        if inside.sum() < 3:
            return None
        beats = np.stack([fine[:, k - before : k + after] for k in at[inside]])
        middle = np.median(beats, axis=0)
        at = at + np.array([_lag(fine, k - before, middle, core, reach) for k in at])
    like = np.array([np.corrcoef(b[:, core].ravel(), middle[:, core].ravel())[0, 1] for b in beats])
    if (like > ALIKE).sum() >= 3:
        beats = beats[like > ALIKE]
    return Beat(np.median(beats, axis=0), fs, before, at / fs)


def _lag(fine: np.ndarray, start: int, middle: np.ndarray, core: slice, reach: int) -> int:
    """By how many samples, at most `reach`, the beat at `start` is to be moved to fit best."""
    first, last = start + core.start - reach, start + core.stop + reach
    if first < 0 or last > fine.shape[1]:
        return 0
    moved = sliding_window_view(fine[:, first:last], core.stop - core.start, axis=1)
    fit = np.einsum("lst,lt->s", moved, middle[:, core])
    return int(fit.argmax()) - reach


def _waves(beat: Beat, rr: float) -> dict[str, float]:
    """Boundaries of QRS, P and T over all leads, in ms, and amplitudes against the level before
    the QRS, in mV."""
    fs, ms = beat.fs, 1000 / beat.fs
    onset, offset = qrs_bounds(beat)
    level = beat.sig[:, max(0, onset - round(0.02 * fs)) : onset + 1].mean(axis=1, keepdims=True)
    sig = beat.sig - level
    found = {"qrs_ms": (offset - onset) * ms}
    p_end = onset - round(0.01 * fs)
    p = _detrended(sig[:, max(0, onset - round(0.26 * fs)) : p_end])
    found["p_wave_uv"] = 1000 * float(np.sqrt((p**2).mean())) if p.shape[1] > 4 else float("nan")
    found["pr_ms"] = (onset - _p_onset(beat, onset)) * ms
    t_peak, t_end = _t_wave(sig, offset, fs)
    found["qt_ms"] = (t_end - onset) * ms
    found["qtc_ms"] = found["qt_ms"] / rr ** (1 / 3)  # Fridericia 1920
    for name, i in LEAD.items():
        qrs = sig[i, onset : offset + 1]
        found[f"R_{name}_mv"] = float(max(qrs.max(), 0.0))
        found[f"S_{name}_mv"] = float(min(qrs.min(), 0.0))
        found[f"T_{name}_mv"] = float(sig[i, t_peak]) if t_peak < sig.shape[1] else float("nan")
    avl = (sig[LEAD["I"]] - sig[LEAD["II"]] / 2)[onset : offset + 1]
    tallest = max(found["R_V5_mv"], found["R_V6_mv"])
    found["sokolow_mv"] = -found["S_V1_mv"] + tallest
    found["cornell_mv"] = float(max(avl.max(), 0.0)) - found["S_V3_mv"]
    return found


def qrs_bounds(beat: Beat) -> tuple[int, int]:
    """First and last sample of the QRS: where the leads' common speed leaves and returns to what
    it is elsewhere in the beat."""
    fs = beat.fs
    speed = _speed(beat.sig, fs)
    near = slice(max(0, beat.at - round(0.12 * fs)), beat.at + round(0.12 * fs))
    peak = near.start + int(speed[near].argmax())
    floor = float(np.quantile(speed, 0.3))
    limit = max(floor + 0.08 * (speed[peak] - floor), 1.5 * floor)
    hold = round(0.012 * fs)
    slow = speed < limit
    onset, offset = peak, peak
    furthest = max(0, beat.at - round(0.14 * fs)), min(len(slow), beat.at + round(0.18 * fs))
    while onset > furthest[0] and not slow[max(0, onset - hold) : onset].all():
        onset -= 1
    while offset < furthest[1] - 1 and not slow[offset + 1 : offset + 1 + hold].all():
        offset += 1
    return onset, offset


def _speed(sig: np.ndarray, fs: float) -> np.ndarray:
    """[time]: how fast all leads together move, smoothed over 10 ms."""
    speed = np.sqrt((np.gradient(sig, axis=1) ** 2).sum(axis=0)) * fs
    width = max(1, round(0.01 * fs))
    return np.convolve(speed, np.ones(width) / width, mode="same")


def _p_onset(beat: Beat, onset: int) -> float:
    """The sample where the P wave begins; NaN where none stands out."""
    fs = beat.fs
    end = onset - round(0.03 * fs)
    part = _detrended(beat.sig[:, :end])
    if part.shape[1] < round(0.1 * fs):
        return float("nan")
    size = np.sqrt((part**2).sum(axis=0))
    first = round(0.02 * fs)
    peak = first + int(size[first:].argmax())
    floor = float(np.quantile(size, 0.2))
    if size[peak] < 0.05 or size[peak] < 2.5 * floor:
        return float("nan")
    limit = floor + 0.2 * (size[peak] - floor)
    below = np.flatnonzero(size[:peak] < limit)
    return float(below[-1] + 1) if len(below) else float("nan")


def _detrended(sig: np.ndarray) -> np.ndarray:
    """Without the line through its ends' means."""
    n = sig.shape[1]
    if n < 5:
        return sig
    k = max(1, n // 12)
    first, last = sig[:, :k].mean(axis=1), sig[:, -k:].mean(axis=1)
    return sig - first[:, None] - (last - first)[:, None] * np.linspace(0, 1, n)


def _t_wave(sig: np.ndarray, offset: int, fs: float) -> tuple[int, float]:
    """The sample of the T wave's peak and of its end: where the steepest tangent after the peak
    meets the level (Lepeschkin and Surawicz 1952, doi 10.1161/01.CIR.6.3.378)."""
    start = offset + round(0.06 * fs)
    size = np.sqrt((sig**2).sum(axis=0))
    if len(size) - start < round(0.1 * fs):
        return len(size), float("nan")
    peak = start + int(size[start : len(size) - round(0.04 * fs)].argmax())
    fall = np.gradient(size)
    steepest = peak + int(fall[peak:].argmin())
    if fall[steepest] >= 0:
        return peak, float("nan")
    level = float(size[steepest:].min())
    end = steepest + (size[steepest] - level) / -fall[steepest]
    return peak, float(end) if end < len(size) + 0.05 * fs else float("nan")


def _spectrum(sig: np.ndarray, fs: float) -> dict[str, float]:
    """Power in each band, dB of 1 mV^2, the mean over leads (Welch 1967, doi
    10.1109/TAU.1967.1161901)."""
    f, density = signal.welch(sig, fs, nperseg=min(256, sig.shape[1]), axis=1)
    out = {}
    for name, (low, high) in zip(SPECTRUM, BANDS_HZ, strict=True):
        power = density[:, (f >= low) & (f < high)].sum(axis=1).mean() * (f[1] - f[0])
        out[name] = float(10 * np.log10(max(power, 1e-12)))
    return out
