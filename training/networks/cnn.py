"""A plain 1-D CNN: convolution, normalisation, halving, over and over; no shortcuts.

The shape that ECG classification began with (Attia et al. 2019, doi
10.1016/S0140-6736(19)31721-0), over any leads and any length.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from training.networks.masks import N_INPUTS, inside, mean_and_peak, with_masks


@dataclass(frozen=True)
class CNNConfig:
    """Widths of the stages, each of half the length; kernel length."""

    widths: tuple[int, ...] = (32, 64, 128, 128, 256)
    kernel: int = 7
    dropout: float = 0.3


class CNN(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs]."""

    def __init__(self, n_outputs: int, config: CNNConfig) -> None:
        super().__init__()
        self.stages = halving_stages(config.widths, config.kernel)
        self.stride = 2 ** len(config.widths)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(2 * config.widths[-1], n_outputs)
        )

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        x = self.stages(with_masks(sig, lead_mask, sample_mask))
        return self.head(mean_and_peak(x, inside(x, sample_mask, self.stride)))


def halving_stages(widths: tuple[int, ...], kernel: int) -> nn.Sequential:
    """Convolution, normalisation, ReLU and maximum of two, a stage a width."""
    layers: list[nn.Module] = []
    for width, out in zip((N_INPUTS, *widths[:-1]), widths, strict=True):
        layers += [
            nn.Conv1d(width, out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm1d(out),
            nn.ReLU(),
            nn.MaxPool1d(2, ceil_mode=True),
        ]
    return nn.Sequential(*layers)
