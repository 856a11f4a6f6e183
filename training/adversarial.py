"""The loop's other update: a generator against its critics, each with an optimiser.

A step trains the critics; every so many steps the generator is trained too. What is kept, resumed
and scheduled is `training.loop`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training import processes
from training.loop import Batch, Batches, Evaluate, LoopConfig, Trainee, begin, drive

BETAS = (0.0, 0.9)  # momentum would chase an opponent that has moved on


class Objective(Protocol):
    """What the critics and the generator minimise; critics take (sig, labels) to scores [n]."""

    n_critics: int
    critic_steps: int  # of the critics, for one of the generator

    def critics_loss(
        self, critics: Sequence[nn.Module], real: Tensor, made: Tensor, labels: Tensor
    ) -> Tensor: ...

    def generator_loss(
        self, critics: Sequence[nn.Module], made: Tensor, labels: Tensor
    ) -> Tensor: ...


def train(
    generator: nn.Module,
    critics: nn.ModuleList,
    objective: Objective,
    batches: Batches,
    evaluate: Evaluate,
    config: LoopConfig,
    run: Path,
    minutes: float = math.inf,
) -> None:
    """As `training.loop.train`. `generator` takes (noise [n, n_noise], labels) and knows its
    `n_noise`; a batch has "latents", the real ones, and "labels"."""
    if config.precision == "fp16":
        raise SystemExit("loop.precision fp16: two losses cannot share its scaling; bf16 or no")
    with processes.none_lost():
        accelerator = begin(config)
        trainee = _opponents(accelerator, generator, critics, objective, config)
        drive(accelerator, trainee, batches, evaluate, config, run, minutes)


def _opponents(
    accelerator: Accelerator,
    generator: nn.Module,
    critics: nn.ModuleList,
    objective: Objective,
    config: LoopConfig,
) -> Trainee:
    networks = {"model": generator, "critics": critics}
    optimizers, take_step = own_steps(accelerator, networks, config)

    def update(step: int, batch: Batch) -> dict[str, Tensor]:
        real, labels = batch["latents"], batch["labels"]
        generator.train()
        noise = torch.randn(len(real), generator.n_noise, device=real.device)
        is_last = (step + 1) % objective.critic_steps == 0
        with accelerator.autocast():
            with torch.set_grad_enabled(is_last):
                made = generator(noise, labels)
            loss = objective.critics_loss(critics, real, made.detach().float(), labels)
        shown = {"critics_loss": loss.detach(), "critics_grad_norm": take_step("critics", loss)}
        if not is_last:
            return shown
        with accelerator.autocast():
            loss = objective.generator_loss(critics, made, labels)
        shown |= {"loss": loss.detach(), "grad_norm": take_step("model", loss)}
        return shown

    return Trainee(networks, optimizers, update)


TakeStep = Callable[[str, Tensor], Tensor]


def own_steps(
    accelerator: Accelerator,
    networks: Mapping[str, nn.Module],
    config: LoopConfig,
    faster: Mapping[str, float] | None = None,
) -> tuple[Mapping[str, torch.optim.Optimizer], TakeStep]:
    """The networks on their device, an optimiser for each, and what takes a step of the one named
    against a loss, whatever else that loss depends on; it returns the norm of the gradient. What is
    frozen stays so. `faster`: how many times the loop's learning rate, where it is not once."""
    learning = {
        name: [p for p in network.to(accelerator.device).parameters() if p.requires_grad]
        for name, network in networks.items()
    }
    optimizers = {
        f"{name}_optimizer": torch.optim.AdamW(
            [{"params": parameters, "faster": (faster or {}).get(name, 1.0)}],
            lr=config.lr,
            betas=BETAS,
            weight_decay=config.weight_decay,
        )
        for name, parameters in learning.items()
    }

    def take_step(name: str, value: Tensor) -> Tensor:
        parameters, optimizer = learning[name], optimizers[f"{name}_optimizer"]
        gradients = torch.autograd.grad(value, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = processes.mean_over_processes(gradient)
        norm = nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    return optimizers, take_step
