"""What only the samples as they came can show: mains hum, and the spikes of a pacemaker."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MAINS_HZ = (50.0, 60.0)
SPIKE_FS = 450.0  # a spike lasts 0.5 ms, a few with a recorder's filters: below, it is lost
SPIKE_MV = 0.2
SPIKE_S, AROUND_S = 0.004, 0.012  # it is over within the one; the other shows no slope leads to it
SHARE = 0.3  # of its height, by which its surroundings may differ
SPIKES_A_SECOND = (0.5, 4.0)
SPIKED_LEADS = 3  # enough to look at: a spike is seen in most


def mains_mv(raw: np.ndarray, fs: float) -> np.ndarray:
    """[segment, lead]: rms of hum at 50 or 60 Hz, whichever is more, in raw [segment, lead, time];
    zero where fs is too low to hold it."""
    waves = _waves(fs, raw.shape[-1])
    if waves is None:
        return np.zeros(raw.shape[:2], dtype=np.float32)
    parts = raw @ waves
    power = (parts * parts).reshape(*parts.shape[:-1], -1, 2).sum(axis=-1)
    return np.sqrt(2 * power.max(axis=-1))


@lru_cache(maxsize=16)
def _waves(fs: float, n_samples: int) -> np.ndarray | None:
    """Sines and cosines under a Hann window, whose mean is 1: [time, 2 a frequency]."""
    hz = [f for f in MAINS_HZ if f < 0.48 * fs]
    if not hz:
        return None
    time = np.arange(n_samples) / fs
    window = np.hanning(n_samples)
    window /= window.sum()
    rows = [window * wave(2 * np.pi * f * time) for f in hz for wave in (np.sin, np.cos)]
    return np.stack(rows, axis=-1).astype(np.float32)


def paced(raw: np.ndarray, usable: np.ndarray, fs: float) -> np.ndarray:
    """[segment]: spikes of a pacemaker in raw [segment, lead, time], at moments that at least two
    leads agree on where several are usable; false throughout where fs is too low.

    A spike leaves its surroundings, is back within SPIKE_S, and these are level: no QRS is so.
    """
    found = np.zeros(len(raw), dtype=bool)
    if fs < SPIKE_FS:
        return found
    rows = np.linspace(0, raw.shape[1] - 1, min(SPIKED_LEADS, raw.shape[1])).round().astype(int)
    some, near, far = raw[:, rows], round(SPIKE_S * fs), round(AROUND_S * fs)
    inner = some[..., far:-far]
    rise = inner - some[..., far - near : -far - near]
    fall = inner - some[..., far + near : some.shape[-1] - far + near]
    high = (np.abs(rise) > SPIKE_MV) & (np.abs(fall) > SPIKE_MV) & usable[:, rows, None]
    which, lead, when = np.nonzero(high)
    if not len(which):
        return found
    at = when + far
    height = np.minimum(
        np.abs(rise[which, lead, when]), np.abs(fall[which, lead, when])
    ) * np.where(np.sign(rise[which, lead, when]) == np.sign(fall[which, lead, when]), 1, 0)
    around = np.stack([some[which, lead, at + k] for k in (-far, -near, near, far)])
    level = np.ptp(around, axis=0) < SHARE * height
    width = round(0.02 * fs)
    seen = np.zeros((len(raw), len(rows), some.shape[-1] // width + 1), dtype=bool)
    seen[which[level], lead[level], at[level] // width] = True
    together = seen.sum(axis=1) >= np.minimum(2, usable[:, rows].sum(axis=1))[:, None].clip(1)
    often = together.sum(axis=-1) / (raw.shape[-1] / fs)
    few, many = SPIKES_A_SECOND
    return (often >= few) & (often <= many)
