"""python -m training.train_denoiser: ECG-LDM's second stage, on the autoencoder's latents."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import nn

from ecg.labels import features, n_features
from training import config as configs
from training import processes
from training.ldm.denoiser import Denoiser, DenoiserConfig, DenoisingLoss
from training.ldm.latents import (
    LabelConfig,
    LatentBatches,
    Latents,
    encode_all,
    fixed_batch,
    normalisation,
)
from training.loop import LoopConfig, train
from training.shards import CODES, Shard
from training.train_autoencoder import load_autoencoder, load_whole
from training.train_classifier import CHOOSE, TRAIN


@dataclass(frozen=True)
class DenoiserRun:
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.train_denoiser", description=__doc__)
    configs.add_arguments(parser, "denoiser")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    parser.add_argument("--autoencoder", type=Path, default=Path("runs/autoencoder"))
    parser.add_argument("--run", type=Path, default=Path("runs/denoiser"))
    parser.add_argument("--initial", type=Path, metavar="RUN", help="begin from its best weights")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    args = parser.parse_args(arguments)
    config = configs.load(DenoiserRun, "denoiser", args.preset, args.overrides)
    parts = load_whole(args.data)
    training = [part.folds(TRAIN) for part in parts]
    statements = occurring_statements(training)
    autoencoder = load_autoencoder(args.autoencoder)
    n_latents = autoencoder.decoder[0].in_channels
    set_seed(config.loop.seed)
    model = Denoiser(n_latents, n_features(statements), config.model)
    if args.initial:
        begin_from(args.initial, model, features(statements))
    n_parameters = sum(p.numel() for p in model.parameters())
    processes.say(f"{n_parameters:,} parameters; {len(statements)} statements")
    if args.dry_run:
        processes.say(configs.dump(config))
        return
    processes.agree(configs.dump(config), parts, [*autoencoder.parameters(), *model.parameters()])
    latents = encode_all(autoencoder, training, statements)
    offset, scale = normalisation(latents, config.model.sigma_data)
    known = {
        "preset": args.preset,
        "config": json.loads(configs.dump(config)),
        "autoencoder": str(args.autoencoder),
        "initial": str(args.initial) if args.initial else None,
        "statements": statements,
        "preparation": json.loads(configs.dump(parts[0].preparation)),
        "offset": offset.ravel().tolist(),
        "scale": scale.ravel().tolist(),
        "sources": {p.source: int(np.isin(p.strat_fold, TRAIN).sum()) for p in parts},
    }
    if processes.is_first():
        args.run.mkdir(parents=True, exist_ok=True)
        (args.run / "run.json").write_text(json.dumps(known, indent=1))

    def batches_of(encoded: Latents) -> LatentBatches:
        return LatentBatches(encoded, statements, offset, scale, config.labels, config.loop)

    held_out = encode_all(autoencoder, [part.folds(CHOOSE) for part in parts], statements)
    fixed = fixed_batch(batches_of(held_out), config.model)
    loss = DenoisingLoss(config.model)

    def evaluate(ema: nn.Module) -> dict[str, float]:
        device = next(ema.parameters()).device
        value = float(loss(ema, {k: v.to(device) for k, v in fixed.items()}))
        return {"loss": value, "score": -value}

    train(model, loss, batches_of(latents), evaluate, config.loop, args.run, args.minutes)


def occurring_statements(parts: list[Shard]) -> tuple[str, ...]:
    """Every statement that has a training example."""
    present = sum((part.label[:, 1:] == 1).sum(axis=0) for part in parts)
    return tuple(code for code, n in zip(CODES, present, strict=True) if n > 0)


def begin_from(run: Path, model: Denoiser, told: Sequence[str]) -> None:
    """The best weights of another run, of the same autoencoder and sizes: to go on with other data.

    The features that the model is `told` are found by name; those that the other did not have begin
    at zero.
    """
    before = json.loads((run / "run.json").read_text())
    weights = torch.load(run / "best.pt", map_location="cpu", weights_only=True)
    learned = weights["net.embed_labels.weight"] * math.sqrt(n_features(before["statements"]))
    columns = dict(zip(features(before["statements"]), learned.T, strict=True))
    new = torch.zeros(len(learned))
    weights["net.embed_labels.weight"] = (
        torch.stack([columns.get(name, new) for name in told], dim=1) / model.net.label_scale
    )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SystemExit(f"{run}: its network has other sizes: {error}") from None


if __name__ == "__main__":
    main()
