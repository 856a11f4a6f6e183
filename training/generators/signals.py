"""Signals as the generators in signal space see them: normalised a lead, in patches, with labels.

A segment is taken for its own latents, without spread: so they learn from the batches that the
denoiser of ECG-LDM learns from, with the same balance and the same labels withheld.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ecg.labels import Labels, encode
from training.ldm.autoencoder import PADDED
from training.ldm.latents import LabelConfig, LatentBatches, Latents, labels_of, normalisation
from training.loop import LoopConfig
from training.shards import Shard
from training.train_classifier import CHOOSE, TRAIN
from training.train_denoiser import occurring_statements


@dataclass(frozen=True)
class Signals:
    """Segments of the training folds and of fold 9, each with its labels; `offset` and `scale`
    [8, 1] in mV: (sig - offset) / scale has mean 0 and rms 1 in each lead of the training folds."""

    training: Latents
    held_out: Latents
    statements: tuple[str, ...]
    offset: np.ndarray
    scale: np.ndarray

    def batches(self, labels: LabelConfig, loop: LoopConfig) -> LatentBatches:
        return LatentBatches(self.training, self.statements, self.offset, self.scale, labels, loop)

    def fold_9(self) -> tuple[Tensor, Tensor]:
        """Normalised segments [n, 8, n_samples], and all their labels [n, features]."""
        sig = (self.held_out.mean - self.offset) / self.scale
        return torch.from_numpy(sig), encoded(self.held_out.labels, self.statements)


def signals(part: Shard) -> Signals:
    training, held_out = part.folds(TRAIN), part.folds(CHOOSE)
    if not (len(training.sig) and len(held_out.sig)):
        raise SystemExit(f"{part.source}: no whole segment in folds 1-8, or none in fold 9")
    statements = occurring_statements([training])
    learned = _as_latents(training, statements)
    offset, scale = normalisation(learned, 1.0)
    held = _as_latents(held_out, statements)
    return Signals(learned, held, statements, offset, np.maximum(scale, 1e-6))


def _as_latents(part: Shard, statements: Sequence[str]) -> Latents:
    sig = part.sig.astype(np.float32)
    labels = [labels_of(part, i, statements) for i in range(len(sig))]
    return Latents(sig, np.broadcast_to(np.float32(0), sig.shape), labels)


def encoded(labels: Sequence[Labels], statements: Sequence[str]) -> Tensor:
    """[n, features]."""
    return torch.from_numpy(np.stack([encode(one, statements) for one in labels]))


def to_patches(sig: Tensor, patch: int) -> Tensor:
    """[n, lead, time] -> [n, lead * patch, 1024 / patch], zeros around."""
    n, leads, n_samples = sig.shape
    before = (PADDED - n_samples) // 2
    sig = nn.functional.pad(sig, (before, PADDED - n_samples - before))
    return sig.reshape(n, leads, -1, patch).transpose(2, 3).reshape(n, leads * patch, -1)


def from_patches(patches: Tensor, patch: int, n_samples: int) -> Tensor:
    """The way back."""
    n, channels, positions = patches.shape
    sig = patches.reshape(n, channels // patch, patch, positions).transpose(2, 3)
    before = (PADDED - n_samples) // 2
    return sig.reshape(n, channels // patch, -1)[:, :, before : before + n_samples]
