"""python -m training.train_denoiser: ECG-LDM's second stage, on the autoencoder's latents."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ecg.labels import Labels, encode, n_features
from training import config as configs
from training.autoencoder import Autoencoder, AutoencoderConfig
from training.denoiser import Denoiser, DenoiserConfig, DenoisingLoss
from training.heart_rate import heart_rate
from training.loop import LoopConfig, train
from training.shards import CODES, SEXES, Shard
from training.train_autoencoder import load_whole
from training.train_classifier import CHOOSE, TRAIN

SUBSTRATES = {0: "normal", 1: "abnormal"}


@dataclass(frozen=True)
class DenoiserRun:
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class Latents:
    """Encoded segments: mean, std float32 [segment, latents, time]; their labels, complete."""

    mean: np.ndarray
    std: np.ndarray
    labels: list[Labels]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.train_denoiser", description=__doc__)
    configs.add_arguments(parser, "denoiser")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    parser.add_argument("--autoencoder", type=Path, default=Path("runs/autoencoder"))
    parser.add_argument("--run", type=Path, default=Path("runs/denoiser"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    args = parser.parse_args()
    config = configs.load(DenoiserRun, "denoiser", args.preset, args.overrides)
    parts = load_whole(args.data)
    training = [part.folds(TRAIN) for part in parts]
    statements = occurring_statements(training)
    autoencoder = load_autoencoder(args.autoencoder)
    n_latents = autoencoder.decoder[0].in_channels
    set_seed(config.loop.seed)
    model = Denoiser(n_latents, n_features(statements), config.model)
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters; {len(statements)} statements")
    if args.dry_run:
        print(configs.dump(config))
        return
    latents = encode_all(autoencoder, training)
    offset, scale = normalisation(latents, config.model.sigma_data)
    args.run.mkdir(parents=True, exist_ok=True)
    known = {
        "preset": args.preset,
        "config": json.loads(configs.dump(config)),
        "autoencoder": str(args.autoencoder),
        "statements": statements,
        "preparation": json.loads(configs.dump(parts[0].preparation)),
        "offset": offset.ravel().tolist(),
        "scale": scale.ravel().tolist(),
        "sources": {p.source: int(np.isin(p.strat_fold, TRAIN).sum()) for p in parts},
    }
    (args.run / "run.json").write_text(json.dumps(known, indent=1))
    batches = LatentBatches(latents, statements, offset, scale, config)
    held_out = encode_all(autoencoder, [part.folds(CHOOSE) for part in parts])
    fixed = fixed_batch(LatentBatches(held_out, statements, offset, scale, config), config)
    loss = DenoisingLoss(config.model)

    def evaluate(ema: nn.Module) -> dict[str, float]:
        device = next(ema.parameters()).device
        value = float(loss(ema, {k: v.to(device) for k, v in fixed.items()}))
        return {"loss": value, "score": -value}

    train(model, loss, batches, evaluate, config.loop, args.run, args.minutes)


def occurring_statements(parts: list[Shard]) -> tuple[str, ...]:
    """Every statement that has a training example."""
    present = sum((part.label[:, 1:] == 1).sum(axis=0) for part in parts)
    return tuple(code for code, n in zip(CODES, present, strict=True) if n > 0)


def load_autoencoder(run: Path) -> Autoencoder:
    """The best weights of a run."""
    config = json.loads((run / "run.json").read_text())["model"]
    model = Autoencoder(AutoencoderConfig(**config))
    model.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    return model.eval()


def encode_all(autoencoder: Autoencoder, parts: list[Shard]) -> Latents:
    means, stds, labels = [], [], []
    for part in parts:
        for start in range(0, len(part.sig), 64):
            sig = torch.from_numpy(part.sig[start : start + 64].astype(np.float32))
            with torch.inference_mode():
                mean, logvar = autoencoder.encode(sig)
            means.append(mean.numpy())
            stds.append(torch.exp(0.5 * logvar).numpy())
        labels += [labels_of(part, i) for i in range(len(part.sig))]
    return Latents(np.concatenate(means), np.concatenate(stds), labels)


def labels_of(part: Shard, i: int) -> Labels:
    """All that is known of segment i; its heart rate is measured."""
    row = part.record[i]
    age, sex = float(part.age[row]), int(part.sex[row])
    rate = heart_rate(part.sig[i].astype(np.float32), part.preparation.fs)
    return Labels(
        atrial_substrate=SUBSTRATES.get(int(part.label[row, 0])),
        statements=tuple(c for c, y in zip(CODES, part.label[row, 1:], strict=True) if y == 1),
        age=None if math.isnan(age) else min(age, 90.0),  # PTB-XL's 300 stands for over 89
        sex=None if sex < 0 else SEXES[sex],
        heart_rate=None if math.isnan(rate) else rate,
    )


def normalisation(latents: Latents, sigma_data: float) -> tuple[np.ndarray, np.ndarray]:
    """offset, scale [latents, 1]: (latent - offset) / scale has mean 0 and rms sigma_data."""
    offset = latents.mean.mean(axis=(0, 2))[:, None]
    spread = np.sqrt(latents.mean.var(axis=(0, 2)) + (latents.std**2).mean(axis=(0, 2)))[:, None]
    return offset.astype(np.float32), (spread / sigma_data).astype(np.float32)


class LatentBatches:
    """Batch `step` from the seed and the step alone; labels partly withheld, as clients do."""

    def __init__(
        self,
        latents: Latents,
        statements: tuple[str, ...],
        offset: np.ndarray,
        scale: np.ndarray,
        config: DenoiserRun,
    ) -> None:
        self.latents, self.offset, self.scale, self.config = latents, offset, scale, config
        self.encoded = np.stack([encode(labels, statements) for labels in latents.labels])

    def __call__(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        c = self.config
        rng = np.random.default_rng((c.loop.seed, step, process))
        rows = rng.integers(len(self.latents.mean), size=c.loop.batch_size // processes)
        noise = rng.standard_normal(self.latents.mean[rows].shape, dtype=np.float32)
        latents = self.latents.mean[rows] + self.latents.std[rows] * noise
        return {
            "latents": torch.from_numpy((latents - self.offset) / self.scale),
            "labels": torch.from_numpy(self._withhold(rng, self.encoded[rows].copy())),
        }

    def _withhold(self, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        """Each statement, and each of substrate, sex, age and heart rate, or everything."""
        c, n = self.config.model, len(labels)
        n_statements = labels.shape[1] - 8
        labels[:, :n_statements] *= rng.random((n, n_statements)) >= c.drop_each
        labels[:, :n_statements] *= rng.random((n, 1)) >= c.drop_each
        for start in range(n_statements, labels.shape[1], 2):
            labels[:, start : start + 2] *= rng.random((n, 1)) >= c.drop_each
        return labels * (rng.random((n, 1)) >= c.drop_all).astype(np.float32)


def fixed_batch(batches: LatentBatches, config: DenoiserRun) -> dict[str, Tensor]:
    """Every held-out segment once, all labels given, with noise that stays the same."""
    rng = np.random.default_rng(0)
    latents = (batches.latents.mean - batches.offset) / batches.scale
    c, n = config.model, len(latents)
    sigma = np.exp(c.P_mean + c.P_std * rng.standard_normal(n)).astype(np.float32)
    return {
        "latents": torch.from_numpy(latents),
        "labels": torch.from_numpy(batches.encoded),
        "sigma": torch.from_numpy(sigma),
        "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
    }


if __name__ == "__main__":
    main()
