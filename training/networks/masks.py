"""What every classifier does with its masks: they are inputs, and pooling leaves padding out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg.leads import INDEPENDENT_LEADS

N_LEADS = len(INDEPENDENT_LEADS)
N_INPUTS = 2 * N_LEADS + 1


def with_masks(sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
    """[n, N_INPUTS, time]: what is known of the signal, where it is known, and where it lasts, so
    that a missing lead and a flat one are told apart."""
    masks = lead_mask[:, :, None] * sample_mask[:, None, :]
    return torch.cat([sig * masks, masks, sample_mask[:, None, :]], dim=1)


def inside(x: Tensor, sample_mask: Tensor, stride: int) -> Tensor:
    """[n, 1, length], 1 where a position of x [n, width, length], a `stride` of samples each, lies
    in the signal."""
    pooled = nn.functional.avg_pool1d(sample_mask[:, None, :], stride, stride, ceil_mode=True)
    return (pooled[:, :, : x.shape[2]] > 0).to(x.dtype)


def mean(x: Tensor, inside: Tensor) -> Tensor:
    """[n, width]: over the positions inside."""
    return (x * inside).sum(dim=2) / inside.sum(dim=2)


def peak(x: Tensor, inside: Tensor) -> Tensor:
    """[n, width]: the maximum over the positions inside."""
    return (x + (inside - 1) * 1e4).amax(dim=2)


def mean_and_peak(x: Tensor, inside: Tensor) -> Tensor:
    """[n, 2 * width]."""
    return torch.cat([mean(x, inside), peak(x, inside)], dim=1)
