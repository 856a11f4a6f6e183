"""How a denoiser learns from rewarded ECGs, with real ones always beside them.

Two ways: more of what was rewarded (reward-weighted regression: Peters and Schaal 2007, doi
10.1145/1273496.1273590), and the better of two rather than the worse (Diffusion-DPO: Wallace et al.
2024, doi 10.1109/CVPR52733.2024.00786). Beside them, what real ECGs alone do, for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.ldm.denoiser import DenoiserConfig, noisy_errors
from training.loop import Batches

WAYS = ("weighted", "preference", "real")


@dataclass(frozen=True)
class UpdateConfig:
    """`way`: one of WAYS. `real_share` of each batch, at least a half. `temperature`, in standard
    deviations of the reward: how fast an ECG's weight falls with it. `beta`: how sharply the better
    is to be preferred; `apart`: by how many standard deviations of the reward the two differ."""

    way: str = "weighted"
    real_share: float = 0.5
    temperature: float = 0.5
    beta: float = 20.0
    apart: float = 0.5

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise SystemExit(f"update.way {self.way!r}: {' or '.join(WAYS)}")
        if not 0.5 <= self.real_share < 1:
            raise SystemExit(f"update.real_share {self.real_share:g}: from 0.5 to below 1")


@dataclass(frozen=True)
class Rewarded:
    """Generated ECGs: normalised latents [n, latents, time], the labels told [n, features], and
    each one's reward [n]."""

    latents: np.ndarray
    labels: np.ndarray
    reward: np.ndarray

    def scaled(self) -> np.ndarray:
        """The reward in its standard deviations, around its mean."""
        return (self.reward - self.reward.mean()) / max(float(self.reward.std()), 1e-9)


def weights(rewarded: Rewarded, temperature: float) -> np.ndarray:
    """[n], summing to 1: how often each is learned from."""
    w = np.exp(np.minimum(rewarded.scaled() / temperature, 3.0))
    return w / w.sum()


def pairs(rewarded: Rewarded, apart: float) -> np.ndarray:
    """int [m, 2]: the better and the worse of ECGs that were told the same. Errors: SystemExit
    where no two are."""
    scaled = rewarded.scaled()
    _, of = np.unique(rewarded.labels, axis=0, return_inverse=True)
    found = []
    for group in range(of.max() + 1):
        rows = np.flatnonzero(of == group)
        better, worse = np.meshgrid(rows, rows, indexing="ij")
        is_ = scaled[better] - scaled[worse] >= apart
        found.append(np.stack([better[is_], worse[is_]], axis=1))
    both = np.concatenate(found)
    if not len(both):
        raise SystemExit("no two generated ECGs have the same labels and rewards that differ")
    return both


class WeightedBatches:
    """Real segments and generated ones, the latter as often as their weights say."""

    def __init__(
        self, real: Batches, rewarded: Rewarded, config: UpdateConfig, batch_size: int, seed: int
    ) -> None:
        self.real, self.rewarded, self.batch_size, self.seed = real, rewarded, batch_size, seed
        self.real_share, self.p = config.real_share, weights(rewarded, config.temperature)

    def __call__(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        n = self.batch_size // processes
        n_real = round(self.real_share * n)
        real = self.real(step, process, processes)
        rng = np.random.default_rng((self.seed, 1, step, process))
        rows = rng.choice(len(self.p), size=n - n_real, p=self.p)
        made = {
            "latents": torch.from_numpy(self.rewarded.latents[rows].astype(np.float32)),
            "labels": torch.from_numpy(self.rewarded.labels[rows].astype(np.float32)),
        }
        return {k: torch.cat([real[k][:n_real], made[k]]) for k in made}


class PreferenceBatches:
    """Real segments, and pairs of generated ones."""

    def __init__(
        self, real: Batches, rewarded: Rewarded, config: UpdateConfig, batch_size: int, seed: int
    ) -> None:
        self.real, self.rewarded, self.batch_size, self.seed = real, rewarded, batch_size, seed
        self.real_share, self.pairs = config.real_share, pairs(rewarded, config.apart)

    def __call__(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        n = self.batch_size // processes
        n_real = round(self.real_share * n)
        real = self.real(step, process, processes)
        rng = np.random.default_rng((self.seed, 1, step, process))
        n_pairs = max(1, (n - n_real) // 2)
        better, worse = self.pairs[rng.integers(len(self.pairs), size=n_pairs)].T
        latents = self.rewarded.latents
        return {
            "latents": real["latents"][:n_real],
            "labels": real["labels"][:n_real],
            "better": torch.from_numpy(latents[better].astype(np.float32)),
            "worse": torch.from_numpy(latents[worse].astype(np.float32)),
            "told": torch.from_numpy(self.rewarded.labels[better].astype(np.float32)),
        }


class PreferenceLoss:
    """The denoising loss of real segments, and that of preferring the better of each pair: both are
    noisy alike, and what counts is by how much the error of each fell from `before`'s."""

    def __init__(self, before: nn.Module, sizes: DenoiserConfig, beta: float) -> None:
        self.before = before.eval().requires_grad_(False)
        self.sizes, self.beta = sizes, beta

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        c, better = self.sizes, batch["better"]
        real = noisy_errors(model, batch["latents"], batch["labels"], c).mean()
        sigma = (c.P_mean + c.P_std * torch.randn(len(better), device=better.device)).exp()
        noise, told = torch.randn_like(better), batch["told"]
        fell = []
        for x in (better, batch["worse"]):
            now = noisy_errors(model, x, told, c, sigma, noise)
            with torch.no_grad():
                was = noisy_errors(self.before, x, told, c, sigma, noise)
            fell.append(was - now)
        return real - nn.functional.logsigmoid(self.beta * (fell[0] - fell[1])).mean()
