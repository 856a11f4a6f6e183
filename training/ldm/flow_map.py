"""The flow map of ECG-LDM: a denoiser's network taught to jump from one noise level to a far lower
one in a single call, guidance included.

Where the denoiser says what lies at the end of the tangent, the flow map says what lies at the end
of the secant: from x at sigma, D leads to (s / sigma) x + (1 - s / sigma) D at the level s, exactly
(Kim et al. 2024, doi 10.48550/arXiv.2310.02279; Boffi et al. 2025,
doi 10.48550/arXiv.2406.07507). Guidance is an input (Meng et al. 2023,
doi 10.1109/CVPR52729.2023.01374).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ecg.sampling import flow_map_features, jumps
from training.trajectories import Trajectories

AT_ONCE = 64


@dataclass(frozen=True)
class FlowMapConfig:
    """How often a jump of a sampler of so many calls is learned, and the error (of latents, in
    units of their own rms) below which the loss is quadratic rather than linear."""

    calls: tuple[int, ...] = (1, 2, 4, 8)
    share: tuple[float, ...] = (0.1, 0.5, 0.2, 0.2)
    linear_above: float = 0.03


class FlowMapBatches:
    """Batch `step` from the seed and the step alone: a jump of a trajectory each."""

    def __init__(
        self, trajectories: Trajectories, config: FlowMapConfig, batch_size: int, seed: int
    ) -> None:
        self.trajectories, self.batch_size, self.seed = trajectories, batch_size, seed
        n_levels = len(trajectories.sigmas) - 1
        kinds = [(jump, share) for calls, share in zip(config.calls, config.share, strict=True)
                 for jump in jumps(calls, n_levels)]  # fmt: skip
        self.jumps = np.array([jump for jump, _ in kinds])
        share = np.array([share / calls for calls, share in self._each(config)])
        self.share = share / share.sum()

    @staticmethod
    def _each(config: FlowMapConfig) -> list[tuple[int, float]]:
        pairs = zip(config.calls, config.share, strict=True)
        return [(calls, share) for calls, share in pairs for _ in range(calls)]

    def __call__(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, step, process))
        n, t = self.batch_size // processes, self.trajectories
        rows = rng.integers(len(t.x), size=n)
        start, end = self.jumps[rng.choice(len(self.jumps), size=n, p=self.share)].T
        return {
            "x": torch.from_numpy(t.x[rows, start].astype(np.float32)),
            "following": torch.from_numpy(t.x[rows, end].astype(np.float32)),
            "sigma": torch.from_numpy(t.sigmas[start].astype(np.float32)),
            "s": torch.from_numpy(t.sigmas[end].astype(np.float32)),
            "labels": torch.from_numpy(
                flow_map_features(t.labels[rows], t.guidance_scale[rows], end, len(t.sigmas) - 1)
            ),
        }


class FlowMapLoss:
    """Pseudo-Huber distance between where a jump ends and where the trajectory is."""

    def __init__(self, config: FlowMapConfig, sigma_data: float) -> None:
        self.config, self.sigma_data = config, sigma_data

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        x, sigma, s = batch["x"], batch["sigma"], batch["s"]
        remaining = (s / sigma)[:, None, None]
        denoised = model(x, sigma, batch["labels"]).float()
        error = remaining * x + (1 - remaining) * denoised - batch["following"]
        squared = (error**2).mean(dim=(1, 2)) / self.sigma_data**2
        c = self.config.linear_above
        distance = (squared + c**2).sqrt() - c
        # What the network says counts c_out at each level: undone, lest the low ones be ignored.
        c_out = sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()
        return (distance * (self.sigma_data / c_out) ** 0.5).mean()


def ends(
    model: nn.Module,
    x: Tensor,
    labels: np.ndarray,
    guidance_scale: np.ndarray,
    sigmas: np.ndarray,
    calls: int,
) -> Tensor:
    """Where so many calls lead from x [n, latents, time] at sigmas[0]; labels [n, features] and
    guidance_scale [n] as the denoiser's."""
    n, n_levels = len(x), len(sigmas) - 1
    for start, end in jumps(calls, n_levels):
        told = flow_map_features(labels, guidance_scale, np.full(n, end), n_levels)
        sigma = torch.full((n,), float(sigmas[start]), device=x.device)
        remaining = float(sigmas[end] / sigmas[start])
        denoised = model(x, sigma, torch.from_numpy(told).to(x.device)).float()
        x = remaining * x + (1 - remaining) * denoised
    return x


@torch.inference_mode()
def made(model: nn.Module, t: Trajectories, calls: int) -> Tensor:
    """Where so many calls lead from the trajectories' beginnings."""
    where, found = next(model.parameters()).device, []
    for start in range(0, len(t.x), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        x = torch.from_numpy(t.x[rows, 0].astype(np.float32)).to(where)
        found.append(ends(model, x, t.labels[rows], t.guidance_scale[rows], t.sigmas, calls).cpu())
    return torch.cat(found)


def errors(model: nn.Module, t: Trajectories, calls: tuple[int, ...]) -> dict[str, float]:
    """rms distance of latents from the trajectories' ends, for each number of calls."""
    end_of = torch.from_numpy(t.x[:, -1].astype(np.float32))
    return {f"rms_{k}": float((made(model, t, k) - end_of).pow(2).mean().sqrt()) for k in calls}
