"""The sampler that a generator's card describes: the steps of a row, and what each asks of the
network. Rows at different steps can share a call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg.card import Diffusion
from ecg.sampling import (
    Network,
    dpm_solver_pp_2m_step,
    flow_map_features,
    guided,
    is_guided,
    jumps,
    noise_levels,
)


class SamplerError(ValueError):
    """That a sampler cannot do what is asked: the `field`, and in `detail` what it can."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field} {detail}")
        self.field, self.detail = field, detail


@dataclass(frozen=True)
class Course:
    """A row's way: its noise levels [num_steps + 1], the last of them 0; the places that it takes
    in the call of each step; for a flow map, the number of the level that each step leads to."""

    sigmas: np.ndarray
    places: np.ndarray
    following: np.ndarray

    @property
    def network_calls(self) -> int:
        """NFE of the row: a call a step, and another one where it is guided by a second."""
        return int(self.places.sum())


def course(d: Diffusion, num_steps: int, guidance_scale: float) -> Course:
    """Errors: SamplerError that says which numbers of steps, which guidance this generator can."""
    if d.flow_map is None:
        sigmas = noise_levels(num_steps, d.sigma_min, d.sigma_max, d.rho)
        scale = np.full(num_steps, guidance_scale)
        places = 1 + is_guided(sigmas[:-1], scale, d.guidance_interval)
        return Course(sigmas, places, np.zeros(num_steps, dtype=int))
    n_levels, (low, high) = d.flow_map.n_levels, d.flow_map.guidance
    if num_steps not in (possible := d.flow_map.num_steps):
        raise SamplerError("num_steps", f"of this generator: {', '.join(map(str, possible))}")
    if not low <= guidance_scale <= high:
        raise SamplerError("guidance_scale", f"of this generator: {low:g} to {high:g}")
    levels = noise_levels(n_levels, d.sigma_min, d.sigma_max, d.rho)
    ends = np.array([end for _, end in jumps(num_steps, n_levels)])
    sigmas = np.append(levels[0], levels[ends])
    return Course(sigmas, np.ones(num_steps, dtype=int), ends)


def estimates(
    network: Network,
    d: Diffusion,
    x: np.ndarray,
    sigma: np.ndarray,
    labels: np.ndarray,
    guidance_scale: np.ndarray,
    following: np.ndarray,
) -> np.ndarray:
    """What the network, guided, makes of rows at levels sigma [n]; `following` [n] as in Course."""
    if d.flow_map is None:
        return guided(network, x, sigma, labels, guidance_scale, d.guidance_interval)
    return network(
        x, sigma, flow_map_features(labels, guidance_scale, following, d.flow_map.n_levels)
    )


def advance(
    d: Diffusion,
    x: np.ndarray,
    estimate: np.ndarray,
    previous: np.ndarray | None,
    sigmas: np.ndarray,
    i: int,
) -> np.ndarray:
    """x after step i. A flow map's estimate leads there by itself; a denoiser's is corrected by the
    one before, where there is one."""
    return dpm_solver_pp_2m_step(x, estimate, None if d.flow_map else previous, sigmas, i)


def sample(
    network: Network, d: Diffusion, x: np.ndarray, labels: np.ndarray, way: Course, scale: float
) -> np.ndarray:
    """x at 0 of rows that start at `way`'s first level."""
    previous, n = None, len(x)
    for i, sigma in enumerate(way.sigmas[:-1]):
        estimate = estimates(
            network, d, x, np.full(n, sigma, dtype=np.float32), labels,
            np.full(n, scale), np.full(n, way.following[i]),
        )  # fmt: skip
        x = advance(d, x, estimate, previous, way.sigmas, i)
        previous = estimate
    return x
