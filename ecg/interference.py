"""What only the samples as they came can show: mains hum, and the spikes of a pacemaker."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MAINS_HZ = (50.0, 60.0)
SPIKE_FS = 450.0  # a spike lasts 0.5 ms, a few with the filters of a recorder: below, it is lost
SPIKE_MV = 0.15
SPIKE_S = 0.004
SPIKES_A_SECOND = (0.5, 4.0)


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
    """[segment]: spikes of a pacemaker, in the usable lead that shows them best.

    A spike leaves its surroundings and is back within SPIKE_S, by far more than anything else does.
    """
    found = np.zeros(len(raw), dtype=bool)
    if fs < SPIKE_FS:
        return found
    width = max(1, round(SPIKE_S * fs))
    inner = raw[..., width:-width]
    before, after = inner - raw[..., : -2 * width], inner - raw[..., 2 * width :]
    away = np.abs(np.where(before * after > 0, np.minimum(np.abs(before), np.abs(after)), 0))
    n = round(0.25 * fs)
    blocks = away[..., : away.shape[-1] // n * n].reshape(*away.shape[:2], -1, n)
    tops = blocks.max(axis=-1)
    seconds = raw.shape[-1] / fs
    spikes = tops > np.maximum(SPIKE_MV, 6 * np.median(tops, axis=-1, keepdims=True))
    often = spikes.sum(axis=-1) / seconds
    few, many = SPIKES_A_SECOND
    return ((often >= few) & (often <= many) & usable).sum(axis=-1) >= np.minimum(
        2, usable.sum(axis=-1)
    ).clip(1)
