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


@torch.inference_mode()
def errors(model: nn.Module, t: Trajectories, calls: tuple[int, ...]) -> dict[str, float]:
    """rms distance of latents from the trajectories' ends, for each number of calls."""
    device, n_levels = next(model.parameters()).device, len(t.sigmas) - 1
    figures = {}
    for k in calls:
        x = torch.from_numpy(t.x[:, 0].astype(np.float32)).to(device)
        for start, end in jumps(k, n_levels):
            given = flow_map_features(t.labels, t.guidance_scale, np.full(len(x), end), n_levels)
            labels = torch.from_numpy(given).to(device)
            sigma = torch.full((len(x),), float(t.sigmas[start]), device=device)
            remaining = float(t.sigmas[end] / t.sigmas[start])
            denoised = torch.cat(
                [
                    model(*part)
                    for part in zip(x.split(64), sigma.split(64), labels.split(64), strict=True)
                ]
            )
            x = remaining * x + (1 - remaining) * denoised
        end_of = torch.from_numpy(t.x[:, -1].astype(np.float32)).to(device)
        figures[f"rms_{k}"] = float((x - end_of).pow(2).mean().sqrt())
    return figures
