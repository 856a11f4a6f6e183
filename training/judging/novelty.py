"""How near ECGs come to others, at any shift and gain: whether a generated one is a copy.

A copy with a little noise, another gain or a shift in time is as near as the copy itself, while two
ECGs of strangers share their rhythm at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOW_HZ, HIGH_HZ = 0.5, 25.0  # what is compared: nearly all of an ECG's energy, little noise
OVERLAP = 0.5  # of the time and of each one's energy, at any shift that counts
ROWS, OTHERS = 16, 128  # compared at a time: some 100 MiB


@dataclass(frozen=True)
class Nearest:
    """distance: float32 [n], to the nearest of the others: 0 a copy (within 0.01, for the band's
    edges), 1 nothing in common; row: int [n], which of the others that is."""

    distance: np.ndarray
    row: np.ndarray


def nearest(sig: np.ndarray, others: np.ndarray, lead_mask: np.ndarray, fs: float) -> Nearest:
    """Of each ECG, mV [n, 8, n_samples], the nearest of `others`, mV [m, 8, n_samples].

    The distance is 1 less the highest correlation at any shift under which the two overlap by
    OVERLAP, over all leads together, which keeps their gains to each other. lead_mask [m, 8]: the
    leads that each of the others has, on which it is compared.
    """
    best = np.full(len(sig), -1.0, np.float32)
    row = np.zeros(len(sig), int)
    mine = _in_band(sig, fs)
    for leads in np.unique(lead_mask > 0, axis=0):
        which = np.flatnonzero(((lead_mask > 0) == leads).all(axis=1))
        theirs = _in_band(others[which][:, leads], fs)
        for j in range(0, len(which), OTHERS):
            prepared = _spectrum(theirs[j : j + OTHERS], fs, mirrored=True)
            for i in range(0, len(mine), ROWS):
                rows = slice(i, i + ROWS)
                found = _highest(_spectrum(mine[rows][:, leads], fs), prepared)
                closest = found.argmax(axis=1)
                value = found[np.arange(len(found)), closest]
                nearer = value > best[rows]
                best[rows] = np.where(nearer, value, best[rows])
                row[rows] = np.where(nearer, which[j + closest], row[rows])
    return Nearest(np.maximum(1 - best, 0), row)


def likeness(sig: np.ndarray, others: np.ndarray, fs: float) -> np.ndarray:
    """[n]: the correlation of each ECG with the nearest of others that have all leads; 1 is a
    copy."""
    everywhere = np.ones(others.shape[:2], np.uint8)
    return 1 - nearest(sig, others, everywhere, fs).distance


def _in_band(sig: np.ndarray, fs: float) -> np.ndarray:
    """float32 [n, lead, time], of the band's frequencies alone."""
    n = sig.shape[2]
    out = np.empty(sig.shape, np.float32)
    hz = np.fft.rfftfreq(n, 1 / fs)
    for i in range(0, len(sig), 256):
        spectrum = np.fft.rfft(sig[i : i + 256].astype(np.float32), axis=2)
        spectrum[:, :, (hz < LOW_HZ) | (hz > HIGH_HZ)] = 0
        out[i : i + 256] = np.fft.irfft(spectrum, n, axis=2)
    return out


@dataclass(frozen=True)
class _Spectrum:
    """complex64 [frequency, n, lead], and one over the root of the energy at each shift, float32
    [shift, n]: 0 where too little of the ECG is left to be compared."""

    values: np.ndarray
    per_root_energy: np.ndarray
    n: int  # samples


def _spectrum(sig: np.ndarray, fs: float, mirrored: bool = False) -> _Spectrum:
    """mirrored: of the ECGs that stay, under which the others are shifted."""
    n = sig.shape[2]
    n_frequencies = 1 + int(min(HIGH_HZ, fs / 2) * 2 * n / fs)
    values = np.fft.rfft(sig, 2 * n, axis=2)[:, :, :n_frequencies].transpose(2, 0, 1)
    energy = np.cumsum(np.pad((sig**2).sum(axis=1), ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    shifts = -_shifts(n) if mirrored else _shifts(n)
    left = energy[:, np.minimum(n, n + shifts)] - energy[:, np.maximum(shifts, 0)]
    enough = left >= np.maximum(OVERLAP * energy[:, -1:], 1e-12)
    weight = np.where(enough, 1 / np.sqrt(np.maximum(left, 1e-12)), 0).astype(np.float32)
    return _Spectrum(np.ascontiguousarray(values), np.ascontiguousarray(weight.T), n)


def _shifts(n: int) -> np.ndarray:
    most = int(n * (1 - OVERLAP))
    return np.arange(-most, most + 1)


def _highest(a: _Spectrum, b: _Spectrum) -> np.ndarray:
    """[a, b]: the highest correlation at any shift."""
    cross = np.fft.irfft(a.values @ b.values.conj().transpose(0, 2, 1), 2 * a.n, axis=0)
    at = cross[_shifts(a.n)]  # a shift below 0 counts from the end
    at *= a.per_root_energy[:, :, None]
    at *= b.per_root_energy[:, None, :]
    return at.max(axis=0)
