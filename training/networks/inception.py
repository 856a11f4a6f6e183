"""InceptionTime: kernels of several lengths side by side, at full length all the way.

(Ismail Fawaz et al. 2020, doi 10.1007/s10618-020-00710-y.) The paper averages five such networks
of different seeds: `training.evaluate` and `training.export` do so with the runs they are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.networks.masks import N_INPUTS, inside, mean, with_masks

MODULES_A_SHORTCUT = 3


@dataclass(frozen=True)
class InceptionConfig:
    """Modules, filters of each of a module's branches, their kernels, width of the bottleneck."""

    depth: int = 6
    filters: int = 32
    kernels: tuple[int, ...] = (40, 20, 10)
    bottleneck: int = 32
    dropout: float = 0.0


class Inception(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs]."""

    def __init__(self, n_outputs: int, config: InceptionConfig) -> None:
        super().__init__()
        self.body = InceptionBody(N_INPUTS, config)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(self.body.width, n_outputs))

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        x = self.body(with_masks(sig, lead_mask, sample_mask))
        return self.head(mean(x, inside(x, sample_mask, stride=1)))


class InceptionBody(nn.Module):
    """[n, n_inputs, time] -> [n, width, time], a shortcut around every third module."""

    def __init__(self, n_inputs: int, config: InceptionConfig) -> None:
        super().__init__()
        self.width = config.filters * (len(config.kernels) + 1)
        widths = [n_inputs, *[self.width] * (config.depth - 1)]
        self.parts = nn.ModuleList(InceptionModule(width, config) for width in widths)
        n_shortcuts = config.depth // MODULES_A_SHORTCUT
        self.shortcuts = nn.ModuleList(
            nn.Sequential(nn.Conv1d(width, self.width, 1, bias=False), nn.BatchNorm1d(self.width))
            for width in [n_inputs, *[self.width] * n_shortcuts][:n_shortcuts]
        )

    def forward(self, x: Tensor) -> Tensor:
        begun = x
        for i, part in enumerate(self.parts, start=1):
            x = part(x)
            if i % MODULES_A_SHORTCUT == 0:
                shortcut = self.shortcuts[i // MODULES_A_SHORTCUT - 1]
                x = begun = torch.relu(x + shortcut(begun))
        return x


class InceptionModule(nn.Module):
    """Convolutions of several lengths and a maximum of three, side by side. One channel needs no
    bottleneck."""

    def __init__(self, width: int, config: InceptionConfig) -> None:
        super().__init__()
        narrow = config.bottleneck if width > 1 else width
        self.bottleneck = nn.Conv1d(width, narrow, 1, bias=False) if width > 1 else nn.Identity()
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.ConstantPad1d(((kernel - 1) // 2, kernel // 2), 0.0),
                nn.Conv1d(narrow, config.filters, kernel, bias=False),
            )
            for kernel in config.kernels
        )
        self.pooled = nn.Sequential(
            nn.MaxPool1d(3, 1, 1), nn.Conv1d(width, config.filters, 1, bias=False)
        )
        self.norm = nn.BatchNorm1d(config.filters * (len(config.kernels) + 1))

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.bottleneck(x)
        branches = [convolution(narrow) for convolution in self.convolutions]
        return torch.relu(self.norm(torch.cat([*branches, self.pooled(x)], dim=1)))
