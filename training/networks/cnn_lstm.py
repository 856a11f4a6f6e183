"""A CNN that shortens the signal, then an LSTM over what is left, in both directions.

(After Oh et al. 2018, doi 10.1016/j.compbiomed.2018.06.002, over any leads.) The backward
direction begins at the signal's end, not at the padding's, so that padding has no say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.networks.cnn import halving_stages
from training.networks.masks import inside, mean_and_peak, with_masks


@dataclass(frozen=True)
class CNNLSTMConfig:
    """Widths of the halving stages and their kernel; `hidden` units of the LSTM a direction."""

    widths: tuple[int, ...] = (32, 64, 128, 128)
    kernel: int = 7
    hidden: int = 128
    dropout: float = 0.3


class CNNLSTM(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs]."""

    def __init__(self, n_outputs: int, config: CNNLSTMConfig) -> None:
        super().__init__()
        self.stages = halving_stages(config.widths, config.kernel)
        self.stride = 2 ** len(config.widths)
        width = config.widths[-1]
        self.forward_lstm = nn.LSTM(width, config.hidden, batch_first=True)
        self.backward_lstm = nn.LSTM(width, config.hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(4 * config.hidden, n_outputs)
        )

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        x = self.stages(with_masks(sig, lead_mask, sample_mask))
        within = inside(x, sample_mask, self.stride)
        steps = (x * within).transpose(1, 2)
        order = mirrored(within)
        ahead = self.forward_lstm(steps)[0]
        back = reordered(self.backward_lstm(reordered(steps, order))[0], order)
        both = torch.cat([ahead, back], dim=2).transpose(1, 2)
        return self.head(mean_and_peak(both, within))


def mirrored(inside: Tensor) -> Tensor:
    """[n, length], for each position that of its mirror image within the signal; 0 outside."""
    last = inside.sum(dim=2).long() - 1
    position = torch.arange(inside.shape[2], device=inside.device)
    return (last - position).clamp(min=0)


def reordered(x: Tensor, order: Tensor) -> Tensor:
    """x [n, length, width] with its positions taken in the order [n, length]."""
    return x.gather(1, order[:, :, None].expand(-1, -1, x.shape[2]))
