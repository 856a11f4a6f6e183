"""python -m training.train_autoencoder: ECG-LDM's first stage, from prepared shards."""

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
from torch import Tensor, nn

from training import config as configs
from training import processes
from training.ldm.autoencoder import Autoencoder, AutoencoderConfig, ReconstructionLoss
from training.loop import LoopConfig, train
from training.shards import Shard, load_all
from training.train_classifier import CHOOSE, TRAIN


@dataclass(frozen=True)
class AutoencoderRun:
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.train_autoencoder", description=__doc__
    )
    configs.add_arguments(parser, "autoencoder")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    parser.add_argument("--run", type=Path, default=Path("runs/autoencoder"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    args = parser.parse_args(arguments)
    config = configs.load(AutoencoderRun, "autoencoder", args.preset, args.overrides)
    set_seed(config.loop.seed)
    model = Autoencoder(config.model)
    processes.say(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    if args.dry_run:
        processes.say(configs.dump(config))
        return
    train_on(load_whole(args.data), model, config, args.run, args.minutes)


def train_on(
    parts: list[Shard], model: Autoencoder, config: AutoencoderRun, run: Path, minutes: float
) -> None:
    """On folds 1-8 of the parts; weights that need no gradient stay as they are."""
    training = np.concatenate([part.folds(TRAIN).sig for part in parts])
    held_out = np.concatenate([part.folds(CHOOSE).sig for part in parts])
    processes.say(f"{len(training)} training segments, {len(held_out)} of fold 9")
    processes.agree(configs.dump(config), parts)
    if processes.is_first():
        run.mkdir(parents=True, exist_ok=True)
        (run / "run.json").write_text(configs.dump(config))
    seed, size = config.loop.seed, config.loop.batch_size

    def batches(step: int, process: int, processes: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step, process))
        rows = rng.integers(len(training), size=size // processes)
        gain = np.exp(0.1 * rng.standard_normal((len(rows), 1, 1), dtype=np.float32))
        return {"sig": torch.from_numpy(training[rows].astype(np.float32) * gain)}

    train(
        model,
        ReconstructionLoss(config.model),
        batches,
        lambda ema: reconstruct(ema, held_out),
        config.loop,
        run,
        minutes,
    )


def load_autoencoder(run: Path) -> Autoencoder:
    """The best weights of a run."""
    config = json.loads((run / "run.json").read_text())["model"]
    model = Autoencoder(AutoencoderConfig(**config))
    model.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    return model.eval()


def load_whole(data: Path) -> list[Shard]:
    """The shards that have segments with all leads, cut down to those."""
    parts = [part for part in map(whole_segments, load_all(data)) if len(part.sig)]
    if not parts:
        raise SystemExit(f"{data}: no segment has all eight leads and full length")
    return parts


def whole_segments(part: Shard) -> Shard:
    """The part's segments with all eight leads and no padding."""
    keep = part.lead_mask.all(axis=1) & (part.n_valid == part.sig.shape[2])
    rows = {"sig": part.sig[keep], "lead_mask": part.lead_mask[keep]}
    rows |= {"n_valid": part.n_valid[keep], "record": part.record[keep]}
    return Shard(**{**vars(part), **rows})


def reconstruct(model: nn.Module, sig: np.ndarray) -> dict[str, float]:
    """RMSE in mV of what the mean latents decode to; `score` is its negative."""
    assert isinstance(model, Autoencoder)
    device = next(model.parameters()).device
    squares = []
    for start in range(0, len(sig), 64):
        x = torch.from_numpy(sig[start : start + 64].astype(np.float32)).to(device)
        squares.append(((model.decode(model.encode(x)[0]) - x) ** 2).mean(dim=(1, 2)).cpu())
    rmse = float(torch.cat(squares).mean().sqrt())
    return {"rmse_mv": rmse, "score": -rmse}


if __name__ == "__main__":
    main()
