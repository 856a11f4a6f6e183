"""D2GAN and WGAN-GP: training, and what their runs can make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ecg.labels import Labels, n_features
from training import adversarial, processes
from training import config as configs
from training.generators.features import Distance
from training.generators.gans import Critic, GanConfig, GanGenerator
from training.generators.maker import (
    Given,
    Maker,
    Sampler,
    best_weights,
    description,
    device,
    in_batches,
    only_known,
)
from training.generators.objectives import D2gan, WganGp
from training.generators.signals import encoded, signals
from training.ldm.latents import LabelConfig
from training.loop import LoopConfig


@dataclass(frozen=True)
class D2ganRun:
    model: GanConfig = field(default_factory=GanConfig)
    objective: D2gan = field(default_factory=D2gan)
    labels: LabelConfig = field(default_factory=LabelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class WganGpRun:
    model: GanConfig = field(default_factory=GanConfig)
    objective: WganGp = field(default_factory=WganGp)
    labels: LabelConfig = field(default_factory=LabelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


RUNS = {"d2gan": D2ganRun, "wgan-gp": WganGpRun}


def train(given: Given) -> None:
    """Fold 9 chooses the weights: the least distance of ECGs made to its labels."""
    config = configs.load(RUNS[given.name], given.name, given.preset, list(given.overrides))
    if given.dry_run:
        processes.say(configs.dump(config))
        return
    found = signals(given.part)
    n_labels, n_samples = n_features(found.statements), given.part.sig.shape[2]
    set_seed(config.loop.seed)
    generator = GanGenerator(n_labels, n_samples, config.model)
    critics = nn.ModuleList(
        Critic(n_labels, config.model) for _ in range(config.objective.n_critics)
    )
    size, n_critics = (sum(p.numel() for p in m.parameters()) for m in (generator, critics))
    processes.say(
        f"{size:,} parameters, {n_critics:,} of critics; {len(found.statements)} statements"
    )
    weights = [*generator.parameters(), *critics.parameters()]
    processes.agree(configs.dump(config), [given.part], weights)
    given.describe(
        config=json.loads(configs.dump(config)),
        statements=found.statements,
        n_samples=n_samples,
        offset=found.offset.ravel().tolist(),
        scale=found.scale.ravel().tolist(),
    )
    real, labels = found.fold_9()
    distance = Distance(real, labels)
    noise = torch.randn(len(real), config.model.n_noise, generator=torch.Generator().manual_seed(9))

    def evaluate(ema: nn.Module) -> dict[str, float]:
        apart = distance.of(_made(ema, noise, labels))
        return {"distance": apart, "score": -apart}

    batches = found.batches(config.labels, config.loop)
    adversarial.train(
        generator, critics, config.objective, batches, evaluate, config.loop, given.run,
        given.minutes,
    )  # fmt: skip


def _made(generator: nn.Module, noise: Tensor, labels: Tensor, size: int = 64) -> Tensor:
    where = next(generator.parameters()).device
    parts = zip(noise.split(size), labels.split(size), strict=True)
    return torch.cat([generator(*(x.to(where) for x in part)).cpu() for part in parts])


def load(run: Path, name: str, sampler: Sampler) -> Maker:
    """From the best weights of a run."""
    only_known(name, sampler)
    known = description(run, name)
    statements, config = tuple(known["statements"]), GanConfig(**known["config"]["model"])
    generator = GanGenerator(n_features(statements), known["n_samples"], config)
    generator.load_state_dict(best_weights(run))
    generator.eval().to(device())
    offset, scale = (torch.tensor(known[k])[:, None] for k in ("offset", "scale"))

    def one(labels: Sequence[Labels], chance: torch.Generator) -> Tensor:
        noise = torch.randn(len(labels), config.n_noise, generator=chance)
        return _made(generator, noise, encoded(labels, statements)) * scale + offset

    def make(labels: Sequence[Labels], seed: int) -> np.ndarray:
        return in_batches(labels, seed, one)

    return Maker(statements, make)
