"""Distribution matching: a flow map's ECGs made as likely as the denoiser's, not only near them.

A flow map taught by distances answers with a mean of what it cannot tell apart, which is too small.
Here its ends are moved along the difference of two scores: that of the denoiser, guided, and that
of a critic, a denoiser that learns what the flow map makes at the moment (Yin et al. 2024, doi
10.48550/arXiv.2311.18828; with the distance to the trajectories' ends as there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.adversarial import own_steps
from training.denoiser import DenoiserConfig, DenoisingLoss
from training.flow_map import ends
from training.loop import Batch, LoopConfig, Trainee
from training.trajectories import Trajectories


@dataclass(frozen=True)
class MatchingConfig:
    """`calls` of the sampler that is tuned; the weight of the distance to the trajectories' ends;
    the steps that the critic learns alone before; its steps for one of the flow map."""

    calls: int = 2
    distance: float = 0.25
    alone: int = 100
    critic_steps: int = 1


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


def guided(
    teacher: nn.Module,
    x: Tensor,
    sigma: Tensor,
    labels: Tensor,
    scale: float,
    interval: tuple[float, float],
) -> Tensor:
    """As `ecg.sampling.guided`, of tensors, all rows at one scale."""
    twice = torch.cat([labels, torch.zeros_like(labels)])
    told, untold = teacher(torch.cat([x, x]), torch.cat([sigma, sigma]), twice).float().chunk(2)
    low, high = interval
    where = ((low < sigma) & (sigma <= high))[:, None, None]
    return torch.where(where, untold + scale * (told - untold), told)


def direction(end: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Which way the ends are to go: from what the critic makes of them to what the teacher does,
    a row's length by how far off the teacher finds it (DMD, eqs. 7 and 8)."""
    off = (end - real).abs().mean(dim=(1, 2), keepdim=True)
    return (real - fake) / off.clamp(min=1e-6)


def matched(
    accelerator: Accelerator,
    student: nn.Module,
    teacher: nn.Module,
    critic: nn.Module,
    diffusion: Mapping,
    sigmas: np.ndarray,
    sizes: DenoiserConfig,
    config: MatchingConfig,
    loop: LoopConfig,
) -> Trainee:
    """What `training.loop.drive` trains: the flow map as "model", and its critic."""
    networks = {"model": student, "critic": critic}
    optimizers, take_step = own_steps(accelerator, networks, loop)
    teacher = teacher.to(accelerator.device).eval().requires_grad_(False)
    scale, interval = diffusion["guidance_scale"], tuple(diffusion["guidance_interval"])
    denoising = DenoisingLoss(sizes)

    def update(step: int, batch: Batch) -> dict[str, Tensor]:
        student.train()
        x, labels = batch["x"], batch["labels"]
        told, scales = labels.cpu().numpy(), np.full(len(x), scale, np.float32)
        is_students = step >= config.alone and (step + 1) % config.critic_steps == 0
        with accelerator.autocast():
            with torch.set_grad_enabled(is_students):
                end = ends(student, x, told, scales, sigmas, config.calls)
            loss = denoising(critic, {"latents": end.detach(), "labels": labels})
        shown = {"critic_loss": loss.detach(), "critic_grad_norm": take_step("critic", loss)}
        if not is_students:
            return shown
        sigma = (sizes.P_mean + sizes.P_std * torch.randn(len(x), device=x.device)).exp()
        with torch.no_grad(), accelerator.autocast():
            noisy = end + sigma[:, None, None] * torch.randn_like(end)
            real = guided(teacher, noisy, sigma, labels, scale, interval)
            fake = critic(noisy, sigma, labels).float()
        target = end.detach() + direction(end.detach(), real, fake)
        matching = (end - target).square().mean() / 2
        off = (end - batch["end"]).square().mean(dim=(1, 2)) / sizes.sigma_data**2
        distance = (off + 1e-3).sqrt().mean()
        loss = matching + config.distance * distance
        return {
            **shown,
            "loss": loss.detach(),
            "matching_loss": matching.detach(),
            "distance_loss": distance.detach(),
            "grad_norm": take_step("model", loss),
        }

    return Trainee(networks, optimizers, update)
