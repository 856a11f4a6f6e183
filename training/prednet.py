"""ECG-PredNet: a residual 1-D CNN over eight leads, any of which may be missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.networks.masks import N_LEADS, inside, mean_and_peak, with_masks
from training.networks.registry import of_config


@dataclass(frozen=True)
class PredNetConfig:
    """Widths of the stem and of each halving stage, residual blocks a stage, kernel length."""

    widths: tuple[int, ...] = (48, 64, 96, 128, 192)
    blocks: int = 1
    kernel: int = 7
    stem_kernel: int = 15
    stem_stride: int = 2
    dropout: float = 0.3


class PredNet(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs]."""

    def __init__(self, n_outputs: int, config: PredNetConfig) -> None:
        super().__init__()
        stem, *stages = config.widths
        self.stem = nn.Sequential(
            nn.Conv1d(
                2 * N_LEADS + 1,
                stem,
                config.stem_kernel,
                config.stem_stride,
                config.stem_kernel // 2,
                bias=False,
            ),
            nn.BatchNorm1d(stem),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        width = stem
        for out in stages:
            for i in range(config.blocks):
                layers.append(Residual(width, out, config.kernel, stride=2 if i == 0 else 1))
                width = out
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(2 * width, n_outputs),
        )
        self.stride = config.stem_stride * 2 ** len(stages)

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        x = self.stages(self.stem(with_masks(sig, lead_mask, sample_mask)))
        return self.head(mean_and_peak(x, inside(x, sample_mask, self.stride)))


class Committee(nn.Module):
    """Networks of different seeds as one: the mean of their logits, less at the mercy of chance."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        logits = [member(sig, lead_mask, sample_mask) for member in self.members]
        return torch.stack(logits).mean(dim=0)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the first may halve the length."""

    def __init__(self, width: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm1d(out),
            nn.ReLU(),
            nn.Conv1d(out, out, kernel, 1, kernel // 2, bias=False),
            nn.BatchNorm1d(out),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and width == out
            else nn.Sequential(nn.Conv1d(width, out, 1, stride, bias=False), nn.BatchNorm1d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def run_description(run: Path) -> dict[str, Any]:
    """What `training.train_classifier` wrote down of a run."""
    return json.loads((run / "run.json").read_text())


def load_model(*runs: Path) -> nn.Module:
    """The best weights of a run, or of several as one network. Errors: SystemExit if they differ
    in their outputs or their preparation."""
    members = []
    descriptions = [run_description(run) for run in runs]
    for run, known in zip(runs, descriptions, strict=True):
        for key in ("statements", "preparation"):
            if known[key] != descriptions[0][key]:
                raise SystemExit(f"{run} and {runs[0]} differ in their {key}")
        model = of_config(known["config"], 1 + len(known["statements"]))
        model.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
        members.append(model.eval())
    return members[0] if len(members) == 1 else Committee(members).eval()
