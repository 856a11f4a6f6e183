"""An ECG's features, from its marks, its median beat and what the median beat leaves."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import signal

from ecg.leads import INDEPENDENT_LEADS
from training.features.marks import Marks, mark, quality, sample_entropy
from training.features.table import NAMES

BEFORE_S, AFTER_S = 0.3, 0.5  # of a beat, around its R peak
USUAL_S = {"qrs_on": -0.05, "qrs_off": 0.06}  # from the R peak, where no beat's was found
COHERENT, P_ALIKE = 0.8, 0.5


def features(sig: np.ndarray, lead_mask: np.ndarray, fs: float) -> np.ndarray:
    """float32 [features] in the order of NAMES, of mV [8, time] without padding; NaN where a
    feature cannot be measured. The rhythm lead is II, or else the first that there is."""
    there = np.asarray(lead_mask, dtype=bool)
    found: dict[str, float] = {}
    if there.any():
        sig = np.where(there[:, None], sig, np.nan).astype(float)
        ii = INDEPENDENT_LEADS.index("II")
        lead = sig[ii if there[ii] else there.argmax()]
        with warnings.catch_warnings():  # what cannot be measured is NaN, which says it
            warnings.simplefilter("ignore")
            marks = mark(lead, fs)
            found |= spectrum(lead, fs)
            if len(marks.r):
                beats = cut_beats(sig, marks.r, fs)
                found |= rhythm(np.diff(marks.r) / fs * 1e3) | intervals(marks, fs)
                found |= coherence(beats[:, there], marks, lead, fs)
                found |= amplitudes(np.nanmedian(beats, axis=0), marks, fs)
                found |= left_over(sig, lead, marks.r, fs)
                found["quality"] = quality(lead, marks.r, fs)
    values = np.array([found.get(name, np.nan) for name in NAMES], dtype=np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def rhythm(rr: np.ndarray) -> dict[str, float]:
    """Of RR intervals in ms."""
    steps = np.diff(rr)
    sdnn = float(rr.std(ddof=1))
    return {
        "heart_rate": 60e3 / float(np.median(rr)),
        "rr_mean": float(rr.mean()),
        "rr_sdnn": sdnn,
        "rr_rmssd": float(np.sqrt((steps**2).mean())),
        "rr_pnn50": float((np.abs(steps) > 50).mean()),
        "rr_cv": sdnn / float(rr.mean()),
        "rr_sampen": sample_entropy(rr),
        "rr_range": float(rr.max() / rr.min()),
        "rr_premature": float((rr < 0.8 * np.median(rr)).mean()),
    }


def intervals(marks: Marks, fs: float) -> dict[str, float]:
    ms = 1e3 / fs
    qt = marks.between("qrs_on", "t_off") * ms
    rr_s = float(np.median(np.diff(marks.r))) / fs
    return {
        "p_duration": marks.between("p_on", "p_off") * ms,
        "pr": marks.between("p_on", "qrs_on") * ms,
        "qrs": marks.between("qrs_on", "qrs_off") * ms,
        "qt": qt,
        "qtc": qt / rr_s ** (1 / 3),
    }


def cut_beats(sig: np.ndarray, r: np.ndarray, fs: float) -> np.ndarray:
    """[beat, lead, time] around the R peaks, NaN past the signal's ends."""
    window = np.arange(round(-BEFORE_S * fs), round(AFTER_S * fs))
    place = r[:, None] + window
    inside = (place >= 0) & (place < sig.shape[1])
    beats = sig[:, np.clip(place, 0, sig.shape[1] - 1)].swapaxes(0, 1)
    return np.where(inside[:, None], beats, np.nan)


def coherence(beats: np.ndarray, marks: Marks, lead: np.ndarray, fs: float) -> dict[str, float]:
    """How alike the beats [beat, lead, time] are, and in the rhythm lead what precedes them."""
    alike = _correlations(beats.reshape(len(beats), -1))
    onset = _after_r(marks, "qrs_on", fs)
    ahead = marks.r[:, None] + np.arange(round(onset - 0.2 * fs), round(onset - 0.03 * fs))
    before = _correlations(lead[ahead[(ahead >= 0).all(axis=1)]])
    return {
        "beat_coherence": float(np.nanmean(alike)),
        "odd_beats": float((alike < COHERENT).mean()),
        "p_share": float((before > P_ALIKE).mean()),
        "p_coherence": float(np.nanmean(before)),
    }


def _correlations(rows: np.ndarray) -> np.ndarray:
    """Of each row with the median row, over the samples that the row has."""
    typical = np.nanmedian(rows, axis=0)
    known = np.isfinite(rows) & np.isfinite(typical)
    n = known.sum(axis=1, keepdims=True)
    a, b = np.where(known, rows, 0), np.where(known, typical, 0)
    a, b = (np.where(known, x - x.sum(axis=1, keepdims=True) / n, 0) for x in (a, b))
    return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))


def amplitudes(beat: np.ndarray, marks: Marks, fs: float) -> dict[str, float]:
    """Of the median beat, mV [8, time], above what lies just before its QRS complex."""
    on, off = (round(BEFORE_S * fs + _after_r(marks, w, fs)) for w in ("qrs_on", "qrs_off"))
    on, off = max(2, on), min(off, beat.shape[1] - round(0.2 * fs))
    beat = beat - np.median(beat[:, max(0, on - round(0.03 * fs)) : on], axis=1, keepdims=True)
    qrs = beat[:, on : off + 1]
    found: dict[str, float] = {}
    t_wave, p_wave = slice(off + round(0.08 * fs), None), slice(0, on - round(0.03 * fs))
    for i, name in enumerate(INDEPENDENT_LEADS):
        if np.isnan(qrs[i]).any():
            continue
        top = int(qrs[i].argmax())
        found |= {
            f"q_{name}": float(qrs[i, : top + 1].min()),
            f"r_{name}": float(qrs[i, top]),
            f"s_{name}": float(qrs[i, top:].min()),
            f"terminal_{name}": float(qrs[i, -round(0.04 * fs) :].mean()),
            f"st_{name}": float(beat[i, off + round(0.06 * fs)]),
            f"t_{name}": _furthest(beat[i, t_wave]),
            f"p_{name}": _furthest(beat[i, p_wave]),
        }
        if name in ("V1", "V6"):
            found[f"r_time_{name}"] = top / fs * 1e3
    return found | _of_several_leads(found, dict(zip(INDEPENDENT_LEADS, qrs, strict=True)))


def _of_several_leads(one: dict[str, float], qrs: dict[str, np.ndarray]) -> dict[str, float]:
    def of(name: str) -> float:
        return one.get(name, float("nan"))

    area_i, area_ii = qrs["I"].sum(), qrs["II"].sum()
    return {
        "qrs_axis": _axis(area_i, area_ii),
        "t_axis": _axis(of("t_I"), of("t_II")),
        "sokolow_lyon": max(of("r_V5"), of("r_V6")) - of("s_V1"),
        "cornell": float((qrs["I"] - qrs["II"] / 2).max()) - of("s_V3"),
    }


def _axis(i: float, ii: float) -> float:
    """Degrees, of an amplitude in I and II; aVF lacks 2 / sqrt(3) of a lead's length."""
    return float(np.degrees(np.arctan2((ii - i / 2) * 2 / np.sqrt(3), i)))


def _furthest(x: np.ndarray) -> float:
    x = x[np.isfinite(x)]
    return float(x[np.abs(x).argmax()]) if len(x) else float("nan")


def left_over(sig: np.ndarray, lead: np.ndarray, r: np.ndarray, fs: float) -> dict[str, float]:
    """Atrial activity and noise: what is left where the median beat is taken from each beat
    (Slocum et al. 1992, doi 10.1016/0022-0736(92)90123-H), outside QRS complexes."""
    found: dict[str, float] = {}
    near = np.abs(np.arange(len(lead))[:, None] - r).min(axis=1)
    v1 = sig[INDEPENDENT_LEADS.index("V1")]
    for ending, x in (("", lead), ("_V1", v1)):
        if np.isnan(x).any():
            continue
        rest = without_beats(x, r, fs) * (near > 0.06 * fs)
        band = signal.sosfiltfilt(signal.butter(3, (4, 9), "bandpass", fs=fs, output="sos"), rest)
        found[f"f_energy{ending}"] = 1e3 * float(np.sqrt((band**2).mean()))
        found[f"f_share{ending}"] = float((band**2).sum() / (rest**2).sum())
    fast = signal.sosfiltfilt(signal.butter(3, 30, "highpass", fs=fs, output="sos"), lead)
    slow = signal.sosfiltfilt(signal.butter(2, 1, "lowpass", fs=fs, output="sos"), lead)
    quiet = fast[near > 0.1 * fs]
    found["noise"] = 1e3 * float(np.sqrt((quiet**2).mean()))
    found["wander"] = 1e3 * float(slow.std())
    return found


def without_beats(x: np.ndarray, r: np.ndarray, fs: float) -> np.ndarray:
    """mV [time] less its median beat, around each R peak up to where the next beat begins."""
    beats = cut_beats(x[None], r, fs)[:, 0]
    typical = np.nanmedian(beats, axis=0)
    rest = x - np.median(x)
    typical = np.nan_to_num(typical - np.nanmedian(x))
    before = round(BEFORE_S * fs)
    for i, peak in enumerate(r):
        last = r[i + 1] - before if i + 1 < len(r) else len(x)
        start, stop = max(0, peak - before), min(peak - before + len(typical), last, len(x))
        if stop > start:
            rest[start:stop] -= typical[start - peak + before : stop - peak + before]
    return rest


def spectrum(lead: np.ndarray, fs: float) -> dict[str, float]:
    frequency, power = signal.welch(lead, fs, nperseg=min(len(lead), round(4 * fs)))
    whole = power[(frequency >= 0.5) & (frequency < 40)].sum()
    bands = {"low": (0.5, 5), "middle": (5, 15), "high": (15, 40)}
    return {
        f"spectrum_{name}": float(power[(frequency >= a) & (frequency < b)].sum() / whole)
        for name, (a, b) in bands.items()
    }


def _after_r(marks: Marks, wave: str, fs: float) -> float:
    """Samples from the R peak to the wave, as is usual where no beat's was found."""
    found = marks.after_r(wave)
    return found if np.isfinite(found) else USUAL_S[wave] * fs
