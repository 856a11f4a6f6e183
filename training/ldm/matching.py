"""Matching: a flow map's ECGs made as the denoiser's are, not only near them.

A flow map taught by distances answers with a mean of what it cannot tell apart, which is too small.
Here critics tell its ends from those of the denoiser's trajectories, and it learns from them. They
are small heads on what the denoiser itself makes of both, noisy (Sauer et al. 2024, doi
10.1145/3680528.3687625).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.adversarial import own_steps
from training.ldm.denoiser import Denoiser
from training.ldm.flow_map import ends
from training.loop import Batch, LoopConfig, Trainee
from training.trajectories import Trajectories


@dataclass(frozen=True)
class MatchingConfig:
    """`calls` of the sampler that is tuned; the weight of the distance to the trajectories' ends;
    the steps that the critics learn alone before, and their learning rate in units of the flow
    map's; the `layers` of the denoiser that they look at, the width of each, and the logarithm of
    the noise that they see it at: mean and standard deviation."""

    calls: int = 2
    distance: float = 0.2
    alone: int = 100
    critics_faster: float = 10.0
    layers: tuple[str, ...] = ("stem", "down.1", "down.4", "down.7", "middle", "up.2")
    width: int = 64
    noise: tuple[float, float] = (-2.0, 1.2)


class MatchingBatches:
    """Batch `step` from the seed and the step alone: where trajectories begin and end."""

    def __init__(self, trajectories: Trajectories, batch_size: int, seed: int) -> None:
        self.trajectories, self.batch_size, self.seed = trajectories, batch_size, seed

    def __call__(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, step, process))
        t = self.trajectories
        rows = rng.integers(len(t.x), size=self.batch_size // processes)
        return {
            "x": torch.from_numpy(t.x[rows, 0].astype(np.float32)),
            "end": torch.from_numpy(t.x[rows, -1].astype(np.float32)),
            "labels": torch.from_numpy(t.labels[rows]),
        }


class Critics(nn.Module):
    """(latents [n, latents, time], sigma [n], labels [n, features]) -> scores [n, places]: what
    each head thinks at each place of its layer, higher where it seems the denoiser's.

    Errors: SystemExit for a layer that is not there.
    """

    def __init__(self, denoiser: Denoiser, config: MatchingConfig) -> None:
        super().__init__()
        self.net, self.sigma_data = denoiser.net.requires_grad_(False), denoiser.sigma_data
        if missing := sorted({*config.layers} - {*self.net.layers}):
            raise SystemExit(f"layer {missing[0]}: one of {', '.join(self.net.layers)}")
        self.places = sorted(self.net.layers.index(layer) for layer in config.layers)
        n_labels = self.net.embed_labels.in_features
        self.net.cut(self.places[-1])
        with torch.no_grad():
            x = torch.zeros(1, self.net.stem.in_channels, 128)
            made = self.net.activations(x, torch.zeros(1), torch.zeros(1, n_labels))
        self.heads = nn.ModuleList(
            Head(made[i].shape[1], config.width, n_labels) for i in self.places
        )

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        c_in = 1 / (sigma**2 + self.sigma_data**2).sqrt()
        made = self.net.activations(c_in[:, None, None] * x, sigma.log() / 4, labels)
        scores = [head(made[i], labels) for head, i in zip(self.heads, self.places, strict=True)]
        return torch.cat(scores, dim=1).float()


class Head(nn.Module):
    """(x [n, width, time], labels [n, features]) -> scores [n, time]; the labels have a part in
    it by projection (Miyato and Koyama 2018, doi 10.48550/arXiv.1802.05637). Nothing normalises x:
    how large an ECG is must be seen."""

    def __init__(self, width: int, inside: int, n_labels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, inside, 1), nn.SiLU(),
            nn.Conv1d(inside, inside, 5, padding=2), nn.SiLU(),
        )  # fmt: skip
        self.out = nn.Conv1d(inside, 1, 1)
        self.project = nn.Linear(n_labels, inside, bias=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        x = self.body(x)
        return self.out(x)[:, 0] + (x * self.project(labels)[:, :, None]).mean(dim=1)


def matched(
    accelerator: Accelerator,
    student: nn.Module,
    critics: nn.Module,
    guidance_scale: float,
    sigmas: np.ndarray,
    sigma_data: float,
    config: MatchingConfig,
    loop: LoopConfig,
) -> Trainee:
    """What `training.loop.drive` trains: the flow map as "model", and its critics, by hinges."""
    networks = {"model": student, "critics": critics}
    faster = {"critics": config.critics_faster}
    optimizers, take_step = own_steps(accelerator, networks, loop, faster)

    def noisy(x: Tensor, sigma: Tensor) -> Tensor:
        return x + sigma[:, None, None] * torch.randn_like(x)

    def update(step: int, batch: Batch) -> dict[str, Tensor]:
        student.train()
        x, real, labels = batch["x"], batch["end"], batch["labels"]
        told, scales = labels.cpu().numpy(), np.full(len(x), guidance_scale, np.float32)
        mean, std = config.noise
        sigma = (mean + std * torch.randn(len(x), device=x.device)).exp()
        is_students = step >= config.alone
        with accelerator.autocast():
            with torch.set_grad_enabled(is_students):
                end = ends(student, x, told, scales, sigmas, config.calls)
            told_real = critics(noisy(real, sigma), sigma, labels)
            told_made = critics(noisy(end.detach(), sigma), sigma, labels)
            loss = (1 - told_real).relu().mean() + (1 + told_made).relu().mean()
        shown = {"critics_loss": loss.detach(), "critics_grad_norm": take_step("critics", loss)}
        if not is_students:
            return shown
        with accelerator.autocast():
            matching = -critics(noisy(end, sigma), sigma, labels).mean()
        off = (end - real).square().mean(dim=(1, 2)) / sigma_data**2
        distance = (off + 1e-3).sqrt().mean()
        loss = matching + config.distance * distance
        return {
            **shown,
            "loss": loss.detach(),
            "distance_loss": distance.detach(),
            "grad_norm": take_step("model", loss),
        }

    return Trainee(networks, optimizers, update)
