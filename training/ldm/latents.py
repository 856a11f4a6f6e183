"""What the denoiser learns from: encoded segments, what is known of each, and batches of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecg.labels import OTHER_FEATURES, Labels, encode
from training.ldm.autoencoder import Autoencoder
from training.ldm.denoiser import DenoiserConfig
from training.ldm.heart_rate import heart_rate
from training.loop import LoopConfig
from training.shards import CODES, SEXES, Shard
from training.sources.labelled import PRESENT, UNKNOWN

SUBSTRATES = {0: "normal", 1: "abnormal"}
FEW = 20  # examples; a statement with fewer counts as with so many, lest they be learned by heart


@dataclass(frozen=True)
class LabelConfig:
    """How often all labels are withheld, or some of the statements, or each of the other labels by
    itself. `balance`: a segment is drawn in proportion to its rarest statement's frequency, to the
    power of -balance; chosen by labels alone, the ECGs of a label stay as they are."""

    drop_all: float = 0.1
    drop_statements: float = 0.3
    drop_each: float = 0.1
    balance: float = 0.5


@dataclass(frozen=True)
class Latents:
    """Encoded segments: mean, std float32 [segment, latents, time]; all that their labels say."""

    mean: np.ndarray
    std: np.ndarray
    labels: list[Labels]


def encode_all(autoencoder: Autoencoder, parts: list[Shard], statements: Sequence[str]) -> Latents:
    means, stds, labels = [], [], []
    for part in parts:
        for start in range(0, len(part.sig), 64):
            sig = torch.from_numpy(part.sig[start : start + 64].astype(np.float32))
            with torch.inference_mode():
                mean, logvar = autoencoder.encode(sig)
            means.append(mean.numpy())
            stds.append(torch.exp(0.5 * logvar).numpy())
        labels += [labels_of(part, i, statements) for i in range(len(part.sig))]
    return Latents(np.concatenate(means), np.concatenate(stds), labels)


def labels_of(part: Shard, i: int, statements: Sequence[str]) -> Labels:
    """All that is known of segment i, of these statements; its heart rate is measured."""
    row = part.record[i]
    known = {c: part.label[row, 1 + CODES.index(c)] for c in statements}
    age, sex = float(part.age[row]), int(part.sex[row])
    rate = heart_rate(part.sig[i].astype(np.float32), part.preparation.fs)
    return Labels(
        atrial_substrate=SUBSTRATES.get(int(part.label[row, 0])),
        statements=tuple(code for code, y in known.items() if y == PRESENT),
        complete=UNKNOWN not in known.values(),
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
        config: LabelConfig,
        loop: LoopConfig,
    ) -> None:
        self.latents, self.offset, self.scale, self.config = latents, offset, scale, config
        self.batch_size, self.seed = loop.batch_size, loop.seed
        self.encoded = np.stack([encode(labels, statements) for labels in latents.labels])
        share = rarest(self.encoded[:, : len(statements)]) ** -config.balance
        self.share, self.n_statements = share / share.sum(), len(statements)

    def __call__(self, step: int, process: int, processes: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, step, process))
        rows = rng.choice(len(self.share), size=self.batch_size // processes, p=self.share)
        noise = rng.standard_normal(self.latents.mean[rows].shape, dtype=np.float32)
        latents = self.latents.mean[rows] + self.latents.std[rows] * noise
        return {
            "latents": torch.from_numpy((latents - self.offset) / self.scale),
            "labels": torch.from_numpy(self._withhold(rng, self.encoded[rows].copy())),
        }

    def _withhold(self, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        """Some statements, in shares from none to all, and then the list is not complete; each of
        substrate, sex, age and heart rate; or everything."""
        c, n, n_statements = self.config, len(labels), self.n_statements
        partly = rng.random((n, 1)) < c.drop_statements
        kept = rng.random((n, n_statements)) >= rng.random((n, 1))
        labels[:, :n_statements] *= kept | ~partly
        start = n_statements
        for group in OTHER_FEATURES:
            withheld = partly if group == ("complete",) else rng.random((n, 1)) < c.drop_each
            labels[:, start : start + len(group)] *= ~withheld
            start += len(group)
        return labels * (rng.random((n, 1)) >= c.drop_all).astype(np.float32)


def rarest(present: np.ndarray) -> np.ndarray:
    """float [segment], for present [segment, statement]: how frequent its rarest statement is; as
    frequent as any where it has none."""
    frequency = np.maximum(present.sum(axis=0), FEW) / len(present)
    return np.where(present > 0, frequency, 1.0).min(axis=1, initial=1.0)


def fixed_batch(batches: LatentBatches, c: DenoiserConfig) -> dict[str, Tensor]:
    """Every held-out segment once, all labels given, with noise that stays the same."""
    rng = np.random.default_rng(0)
    latents = (batches.latents.mean - batches.offset) / batches.scale
    n = len(latents)
    sigma = np.exp(c.P_mean + c.P_std * rng.standard_normal(n)).astype(np.float32)
    return {
        "latents": torch.from_numpy(latents),
        "labels": torch.from_numpy(batches.encoded),
        "sigma": torch.from_numpy(sigma),
        "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
    }
