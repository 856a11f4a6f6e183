"""xresnet1d101: a ResNet with the bag of tricks, in one dimension, as is usual on PTB-XL.

A stem of three convolutions, shortcuts that average before they project, blocks that begin as
identities, and mean and maximum pooled side by side (He et al. 2019, doi 10.1109/CVPR.2019.00065).
Widths, kernels of 5 and the head are those of Strodthoff et al. 2021, doi
10.1109/JBHI.2020.3022989: every stage is 256 wide, the halving stages do not widen.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from training.networks.masks import N_INPUTS, inside, mean_and_peak, with_masks

EXPANSION = 4


@dataclass(frozen=True)
class XResNet1dConfig:
    """Widths of the stem, blocks a stage, width of the bottlenecks (blocks are 4 times as wide),
    kernel length, hidden units of the head."""

    stem: tuple[int, ...] = (32, 32, 64)
    blocks: tuple[int, ...] = (3, 4, 23, 3)
    width: int = 64
    kernel: int = 5
    hidden: int = 128
    dropout: float = 0.5


class XResNet1d(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs]."""

    def __init__(self, n_outputs: int, config: XResNet1dConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = N_INPUTS
        for i, out in enumerate(config.stem):
            layers += [*convolution(width, out, config.kernel, 2 if i == 0 else 1), nn.ReLU()]
            width = out
        layers.append(nn.MaxPool1d(3, 2, 1))
        out = EXPANSION * config.width
        for stage, n in enumerate(config.blocks):
            for i in range(n):
                halves = stage > 0 and i == 0
                layers.append(Bottleneck(width, out, config.kernel, 2 if halves else 1))
                width = out
        self.body = nn.Sequential(*layers)
        self.stride = 4 * 2 ** (len(config.blocks) - 1)
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * width),
            nn.Dropout(config.dropout / 2),
            nn.Linear(2 * width, config.hidden, bias=False),
            nn.ReLU(),
            nn.BatchNorm1d(config.hidden),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, n_outputs),
        )
        self.apply(_initialise)
        for block in self.body.modules():
            if isinstance(block, Bottleneck):
                nn.init.zeros_(block.last_norm.weight)

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        x = self.body(with_masks(sig, lead_mask, sample_mask))
        return self.head(mean_and_peak(x, inside(x, sample_mask, self.stride)))


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, beside a shortcut; the convolution may halve the length."""

    def __init__(self, width: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        narrow = out // EXPANSION
        widen = convolution(narrow, out, 1, 1)
        self.last_norm = widen[1]
        self.body = nn.Sequential(
            *convolution(width, narrow, 1, 1), nn.ReLU(),
            *convolution(narrow, narrow, kernel, stride), nn.ReLU(),
            *widen,
        )  # fmt: skip
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool1d(stride, stride, ceil_mode=True))
        if width != out:
            shortcut += convolution(width, out, 1, 1)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.shortcut(x)).relu()


def convolution(width: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    """A convolution and its normalisation."""
    return [nn.Conv1d(width, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(out)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
