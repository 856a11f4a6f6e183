"""Samplers over any denoiser D(x; sigma): a row's noise is its own, and so is its sigma.

x is [n, channel, time], sigma [n]; `denoise(x, sigma)` returns the estimate of the clean x.
The equations are those of Karras et al. 2022 (EDM, doi 10.48550/arXiv.2206.00364) and Lu et al.
2022 (DPM-Solver++, doi 10.48550/arXiv.2211.01095).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Denoise = Callable[[np.ndarray, np.ndarray], np.ndarray]
Network = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # x, sigma, labels


def noise_levels(
    num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    """[num_steps + 1], from sigma_max down to sigma_min and then 0 (EDM, eq. 5)."""
    if num_steps == 1:
        return np.array([sigma_max, 0.0])
    ramp = np.arange(num_steps) / (num_steps - 1)
    sigma = (
        sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))
    ) ** rho
    return np.append(sigma, 0.0)


def prior(seed: int, row: int, shape: tuple[int, ...], sigma_max: float) -> np.ndarray:
    """A row's starting noise, float32 `shape`: of the seed and the row's number alone."""
    rng = np.random.Generator(np.random.Philox(key=[seed, row]))
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma_max)


def is_guided(
    sigma: np.ndarray, guidance_scale: np.ndarray, interval: tuple[float, float]
) -> np.ndarray:
    """Which rows guidance applies to: those with a scale, at noise levels above the interval's
    first and up to its last. Outside it costs calls and diversity for nothing (Kynkaanniemi et al.
    2024, doi 10.48550/arXiv.2404.07724)."""
    low, high = interval
    return (guidance_scale != 1) & (low < sigma) & (sigma <= high)


def guided(
    network: Network,
    x: np.ndarray,
    sigma: np.ndarray,
    labels: np.ndarray,
    guidance_scale: np.ndarray,
    interval: tuple[float, float],
) -> np.ndarray:
    """Classifier-free guidance (Ho and Salimans 2022, doi 10.48550/arXiv.2207.12598), each row at
    its own scale [n] (1 = off): guided rows go through the same call twice, once without labels."""
    twice = np.flatnonzero(is_guided(sigma, guidance_scale, interval))
    out = network(
        np.concatenate([x, x[twice]]),
        np.concatenate([sigma, sigma[twice]]),
        np.concatenate([labels, np.zeros_like(labels[twice])]),
    )
    denoised, unconditional = out[: len(x)].copy(), out[len(x) :]
    scale = guidance_scale[twice].astype(np.float32)[:, None, None]
    denoised[twice] = unconditional + scale * (denoised[twice] - unconditional)
    return denoised


def heun(denoise: Denoise, x: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """EDM's deterministic second-order sampler (algorithm 1, without churn): 2 calls a step, the
    last one 1."""
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        d = (x - denoise(x, _all(sigma, x))) / np.float32(sigma)
        euler = x + np.float32(following - sigma) * d
        if following > 0:
            d_next = (euler - denoise(euler, _all(following, x))) / np.float32(following)
            x = x + np.float32(following - sigma) * (d + d_next) / 2
        else:
            x = euler
    return x


def dpm_solver_pp_2m(denoise: Denoise, x: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """DPM-Solver++(2M): one call a step, the one before used again."""
    previous = None
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, _all(sigmas[i], x))
        x = dpm_solver_pp_2m_step(x, denoised, previous, sigmas, i)
        previous = denoised
    return x


def dpm_solver_pp_2m_step(
    x: np.ndarray,
    denoised: np.ndarray,
    previous: np.ndarray | None,
    sigmas: np.ndarray,
    i: int,
) -> np.ndarray:
    """Step i of DPM-Solver++(2M) (algorithm 2, with alpha = 1 and lambda = -log sigma).

    A step alone, so that rows at different steps can share a call of the network.
    """
    sigma, following = sigmas[i], sigmas[i + 1]
    if following == 0:
        return denoised
    h = np.log(sigma / following)
    estimate = denoised
    if previous is not None:
        r = np.log(sigmas[i - 1] / sigma) / h
        estimate = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * previous
    x = np.float32(following / sigma) * x - np.float32(np.expm1(-h)) * estimate
    return x.astype(np.float32)


def jumps(num_steps: int, n_levels: int) -> list[tuple[int, int]]:
    """The noise levels, by number, from which and to which a flow map goes in `num_steps` calls.

    Errors: ValueError where they do not divide the levels.
    """
    if n_levels % num_steps:
        raise ValueError(f"{num_steps} steps do not divide {n_levels} levels")
    width = n_levels // num_steps
    return [(start, start + width) for start in range(0, n_levels, width)]


def flow_map_features(
    labels: np.ndarray, guidance_scale: np.ndarray, following: np.ndarray, n_levels: int
) -> np.ndarray:
    """float32 [n, features + 1 + n_levels]: what a flow map is told beside x and sigma: the labels
    [n, features], the guidance scale [n], and the number of the level [n] to jump to, from 1."""
    where = np.eye(n_levels, dtype=np.float32)[following - 1]
    guidance = (guidance_scale[:, None] - 1).astype(np.float32)
    return np.concatenate([labels, guidance, where], axis=1)


def _all(sigma: float, x: np.ndarray) -> np.ndarray:
    return np.full(len(x), sigma, dtype=np.float32)
