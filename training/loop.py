"""The one training loop: read it from top to bottom; its parts are passed in.

Runs the same on CPU, on one GPU and on many, of one machine or several (Accelerate). A batch and
the random numbers of a step are functions of the step and the process alone, so a resumed run sees
what an uninterrupted one would have seen. Only the first process reads and writes the run.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training import processes

Batch = Mapping[str, Tensor]
Batches = Callable[[int, int, int], Batch]  # (step, process, processes) -> this process's share
Loss = Callable[[nn.Module, Batch], Tensor]
Evaluate = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class LoopConfig:
    """`steps` optimiser steps of `batch_size` (over all processes); AdamW, cosine decay after a
    linear warm-up; `ema` is the decay of the averaged weights, which are what is kept.

    `score` names the entry of the evaluation that chooses the best weights.
    """

    steps: int = 6000
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 200
    ema: float = 0.998
    clip: float = 1.0
    precision: str = "bf16"
    seed: int = 0
    eval_every: int = 500
    save_every_s: float = 120.0
    score: str = "score"


def train(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    evaluate: Evaluate,
    config: LoopConfig,
    run: Path,
    minutes: float = math.inf,
) -> None:
    """Train `model`, or go on from `run`'s checkpoint; leaves `best.pt` and `checkpoint.pt` there.

    Stops early, resumably, after `minutes`; SystemExit where another process of it is gone.
    """
    with processes.none_lost():
        _train(model, loss, batches, evaluate, config, run, minutes)


def _train(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    evaluate: Evaluate,
    config: LoopConfig,
    run: Path,
    minutes: float,
) -> None:
    accelerator = begin(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    model, optimizer = accelerator.prepare(model, optimizer)

    def update(step: int, batch: Batch) -> dict[str, Tensor]:
        model.train()
        with accelerator.autocast():
            value = loss(model, batch)
        accelerator.backward(value)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": value.detach(), "grad_norm": norm}

    trainee = Trainee({"model": model}, {"optimizer": optimizer}, update)
    drive(accelerator, trainee, batches, evaluate, config, run, minutes)


@dataclass(frozen=True)
class Trainee:
    """What is trained, all of it in the checkpoint: networks and optimisers by name, and the
    `update` of both by step and batch, which returns what is to be shown of it. The average of
    the network "model" is what is kept."""

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    update: Callable[[int, Batch], Mapping[str, Tensor]]


def begin(config: LoopConfig) -> Accelerator:
    """Seeded, and the batch can be shared by the processes, or SystemExit."""
    AcceleratorState._reset_state()  # another training of this process may have had other precision
    accelerator = Accelerator(mixed_precision=config.precision, cpu=processes.on_cpu())
    set_seed(config.seed)
    processes.share_of(config.batch_size)
    return accelerator


def drive(
    accelerator: Accelerator,
    trainee: Trainee,
    batches: Batches,
    evaluate: Evaluate,
    config: LoopConfig,
    run: Path,
    minutes: float,
) -> None:
    """Update after update, whatever an update is: the schedule, the average, what is kept."""
    model = accelerator.unwrap_model(trainee.networks["model"])
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    state = _resume(run / "checkpoint.pt", accelerator, trainee, ema)
    writer = SummaryWriter(str(run / "log")) if accelerator.is_main_process else None
    started = saved = time.monotonic()
    with tqdm(
        total=config.steps, initial=state.step, unit=" steps", mininterval=5,
        disable=not accelerator.is_main_process,
    ) as bar:  # fmt: skip
        while state.step < config.steps and not _is_late(started, minutes):
            torch.manual_seed(processes.seed_of(config.seed, state.step))
            for optimizer in trainee.optimizers.values():
                for group in optimizer.param_groups:
                    faster = group.get("faster", 1.0)
                    group["lr"] = faster * config.lr * _schedule(state.step, config)
            batch = batches(state.step, accelerator.process_index, accelerator.num_processes)
            batch = {k: v.to(accelerator.device) for k, v in batch.items()}
            shown = trainee.update(state.step, batch)
            state.step += 1
            _average(ema, model, config.ema, state.step)
            bar.update()
            if not accelerator.is_main_process:
                continue
            if state.step % 50 == 0:
                figures = {name: float(value) for name, value in shown.items()}
                said = {k: f"{v:.4f}" for k, v in figures.items() if "loss" in k}
                bar.set_postfix(**said, best=f"{state.best:.4f}", refresh=False)
                for name, value in figures.items():
                    writer.add_scalar(f"train/{name}", value, state.step)
            if state.step % config.eval_every == 0 or state.step == config.steps:
                _evaluate(ema, evaluate, config, state, run, writer)
            if time.monotonic() - saved > config.save_every_s:
                _save(run / "checkpoint.pt", accelerator, trainee, ema, state)
                saved = time.monotonic()
    if accelerator.is_main_process:
        _save(run / "checkpoint.pt", accelerator, trainee, ema, state)
        writer.close()
    accelerator.wait_for_everyone()


def _is_late(started: float, minutes: float) -> bool:
    """By the first process's clock: all of them stop before the same step."""
    if math.isinf(minutes):
        return False
    return processes.first_says(time.monotonic() - started >= 60 * minutes)


@dataclass
class _State:
    step: int = 0
    best: float = -math.inf


def _schedule(step: int, config: LoopConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average, faster in the beginning; buffers are copied."""
    decay = min(decay, (1 + step) / (10 + step))
    for kept, new in zip(ema.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for kept, new in zip(ema.buffers(), model.buffers(), strict=True):
        kept.copy_(new)


def _evaluate(
    ema: nn.Module,
    evaluate: Evaluate,
    config: LoopConfig,
    state: _State,
    run: Path,
    writer: SummaryWriter,
) -> None:
    with torch.inference_mode():
        figures = evaluate(ema)
    for name, figure in figures.items():
        writer.add_scalar(f"validation/{name}", figure, state.step)
    with (run / "history.jsonl").open("a") as f:
        f.write(json.dumps({"step": state.step, **figures}) + "\n")
    if figures[config.score] > state.best:
        state.best = figures[config.score]
        _replace(run / "best.pt", ema.state_dict())


def _save(
    path: Path, accelerator: Accelerator, trainee: Trainee, ema: nn.Module, state: _State
) -> None:
    networks = {k: accelerator.unwrap_model(v) for k, v in trainee.networks.items()}
    parts = {**networks, "ema": ema, **trainee.optimizers}
    content = {name: part.state_dict() for name, part in parts.items()}
    _replace(path, {**content, "step": state.step, "best": state.best})


def _resume(path: Path, accelerator: Accelerator, trainee: Trainee, ema: nn.Module) -> _State:
    saved = None
    if accelerator.is_main_process and path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
    saved = processes.first_says(saved)
    if saved is None:
        return _State()
    networks = {k: accelerator.unwrap_model(v) for k, v in trainee.networks.items()}
    for name, part in {**networks, "ema": ema, **trainee.optimizers}.items():
        part.load_state_dict(saved[name])
    return _State(saved["step"], saved["best"])


def _replace(path: Path, content: object) -> None:
    """Written beside and renamed, so that an interrupted save leaves the last one whole."""
    beside = path.with_suffix(".part")
    torch.save(content, beside)
    beside.replace(path)
