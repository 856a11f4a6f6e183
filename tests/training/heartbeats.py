"""Synthetic ECGs whose rhythm, intervals and amplitudes are known, for what measures them."""

from __future__ import annotations

import numpy as np

FS, N_SAMPLES = 100.0, 1000
WAVES = {  # centre from the QRS, s; width, s; height, mV
    "P": (-0.16, 0.022, 0.15),
    "Q": (-0.02, 0.010, -0.1),
    "R": (0.0, 0.012, 1.0),
    "S": (0.025, 0.010, -0.25),
    "T": (0.26, 0.045, 0.3),
}
LEADS = np.array([0.6, 1.0, -0.7, 0.3, 0.8, 1.2, 1.1, 0.9])  # how much of it each lead sees


def ecg(
    rng: np.random.Generator,
    rate: float = 70.0,
    irregular: float = 0.01,
    p: float = 1.0,
    pr: float = 0.0,
    wide: float = 1.0,
    tall: float = 1.0,
    noise_mv: float = 0.01,
) -> np.ndarray:
    """mV [8, 1000]. irregular: spread of RR, of its mean; p: the P wave's height, of normal; pr: s
    by which it comes earlier; wide, tall: the QRS, of normal."""
    rr = 60 / rate * (1 + irregular * rng.standard_normal(60)).clip(0.5, 1.8)
    t = np.arange(N_SAMPLES) / FS
    one = np.zeros(N_SAMPLES)
    for beat in rng.uniform(0, 0.3) + np.cumsum(rr):
        for name, (centre, width, height) in WAVES.items():
            if name == "P":
                centre, height = centre - pr, height * p
            elif name != "T":
                centre, width, height = centre * wide, width * wide, height * tall
            one += height * np.exp(-0.5 * ((t - beat - centre) / width) ** 2)
    return LEADS[:, None] * one + noise_mv * rng.standard_normal((8, N_SAMPLES))


def ecgs(rng: np.random.Generator, n: int, **changes: float) -> np.ndarray:
    """[n, 8, 1000], each at a rate and of a size of its own."""
    return np.stack(
        [
            ecg(rng, **{"rate": rng.uniform(55, 95), **changes}) * rng.uniform(0.8, 1.2)
            for _ in range(n)
        ]
    )
