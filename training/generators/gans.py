"""A generator of ECGs and a critic of them, the same whatever their objective.

Signals are normalised (rms 1 a lead) and cut into patches, each a position with `patch` samples of
all leads; positions are halved from level to level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.generators.signals import from_patches, to_patches
from training.ldm.autoencoder import PADDED
from training.ldm.blocks import Downsample, Upsample
from training.ldm.denoiser import Stage
from training.prednet import N_LEADS


@dataclass(frozen=True)
class GanConfig:
    """Widths from the most positions (1024 / patch) to the fewest, blocks a level; attention where
    there are at most `attention` positions."""

    patch: int = 8
    widths: tuple[int, ...] = (64, 96, 128, 160)
    blocks: int = 1
    kernel: int = 5
    attention: int = 64
    n_noise: int = 128
    n_embedding: int = 128

    def positions(self, level: int) -> int:
        return PADDED // self.patch // 2**level


class LabelEmbedding(nn.Module):
    """Labels [n, features], scaled as for the denoiser, and what else there is -> [n, out]."""

    def __init__(self, n_labels: int, out: int, n_more: int = 0) -> None:
        super().__init__()
        self.scale = math.sqrt(n_labels)
        self.layers = nn.Sequential(
            nn.Linear(n_labels + n_more, out), nn.SiLU(), nn.Linear(out, out), nn.SiLU()
        )

    def forward(self, labels: Tensor, *more: Tensor) -> Tensor:
        return self.layers(torch.cat([labels * self.scale, *more], dim=1))


class GanGenerator(nn.Module):
    """(noise [n, n_noise], labels [n, features]) -> normalised signals [n, 8, n_samples]."""

    def __init__(self, n_labels: int, n_samples: int, config: GanConfig) -> None:
        super().__init__()
        c, widths = config, config.widths
        self.patch, self.n_samples, self.n_noise = c.patch, n_samples, c.n_noise
        self.embed = LabelEmbedding(n_labels, c.n_embedding, c.n_noise)
        self.start = nn.Linear(c.n_embedding + c.n_noise, widths[-1] * c.positions(len(widths) - 1))
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            attention = c.positions(level) <= c.attention
            for _ in range(c.blocks):
                self.up.append(Stage(width, width, c.kernel, c.n_embedding, attention))
            if level:
                self.up.append(Upsample(width, widths[level - 1]))
        # No norm before it: a label may decide the amplitude.
        self.out = nn.Conv1d(widths[0], N_LEADS * c.patch, c.kernel, 1, c.kernel // 2)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        e = self.embed(labels, noise)
        x = self.start(torch.cat([e, noise], dim=1))
        x = x.reshape(len(x), self.up[0].block.conv1.in_channels, -1)
        for part in self.up:
            x = part(x, e) if isinstance(part, Stage) else part(x)
        return from_patches(self.out(nn.functional.silu(x)), self.patch, self.n_samples)


class Critic(nn.Module):
    """(normalised signals [n, 8, n_samples], labels [n, features]) -> scores [n].

    The labels enter by a projection (Miyato and Koyama 2018, doi 10.48550/arXiv.1802.05637).
    """

    def __init__(self, n_labels: int, config: GanConfig) -> None:
        super().__init__()
        c, widths = config, config.widths
        self.patch = c.patch
        self.stem = nn.Conv1d(N_LEADS * c.patch, widths[0], c.kernel, 1, c.kernel // 2)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            attention = c.positions(level) <= c.attention
            for _ in range(c.blocks):
                self.down.append(Stage(width, width, c.kernel, 0, attention))
            if level + 1 < len(widths):
                self.down.append(Downsample(width, widths[level + 1]))
        self.embed = LabelEmbedding(n_labels, c.n_embedding)
        self.project = nn.Linear(c.n_embedding, 2 * widths[-1])
        self.score = nn.Linear(2 * widths[-1], 1)

    def forward(self, sig: Tensor, labels: Tensor) -> Tensor:
        x = self.stem(to_patches(sig, self.patch))
        for part in self.down:
            x = part(x, None) if isinstance(part, Stage) else part(x)
        x = nn.functional.silu(x)
        h = torch.cat([x.mean(dim=2), (x**2).mean(dim=2).add(1e-6).sqrt()], dim=1)
        projected = (self.project(self.embed(labels)) * h).mean(dim=1)
        return (self.score(h)[:, 0] + projected).float()
