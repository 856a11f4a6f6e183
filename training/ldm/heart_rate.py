"""Heart rate from an ECG, for labels and for judging what was generated."""

from __future__ import annotations

import numpy as np
from scipy import signal

from ecg.labels import MAX_HEART_RATE, MIN_HEART_RATE


def heart_rate(sig: np.ndarray, fs: float) -> float:
    """Beats a minute of mV [lead, time], from the median distance of QRS complexes; NaN where
    fewer than three are found."""
    peaks = qrs_complexes(sig, fs)
    if len(peaks) < 3:
        return float("nan")
    rate = 60 * fs / float(np.median(np.diff(peaks)))
    return rate if MIN_HEART_RATE <= rate <= MAX_HEART_RATE else float("nan")


def qrs_complexes(sig: np.ndarray, fs: float) -> np.ndarray:
    """The sample of each QRS complex in mV [lead, time].

    Slopes in the QRS band, squared, summed over leads and smoothed over 100 ms; peaks at least
    0.25 s apart and above a share of the tallest (after Pan and Tompkins 1985, doi
    10.1109/TBME.1985.325532).
    """
    sos = signal.butter(2, (5, 20), "bandpass", fs=fs, output="sos")
    slope = np.diff(signal.sosfiltfilt(sos, np.asarray(sig, dtype=float), axis=-1), axis=-1)
    width = max(1, round(0.1 * fs))
    energy = np.convolve((slope**2).sum(axis=0), np.ones(width) / width, mode="same")
    tall = np.percentile(energy, 98)
    return signal.find_peaks(energy, height=0.25 * tall, distance=max(1, round(0.25 * fs)))[0]
