"""Parts that the autoencoder and the denoiser share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

GROUP_WIDTH = 8


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // GROUP_WIDTH, width)


class ExactConv1d(nn.Conv1d):
    """A convolution in float32, whatever the rest is in: in bfloat16, on processors with AMX, one
    of fewer than 16 channels with a kernel of a multiple of 8 errs by as much as it says (torch
    2.13; forwards, and its transpose backwards)."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class ExactConvTranspose1d(nn.ConvTranspose1d):
    """As `ExactConv1d`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x, output_size)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float(), output_size)


class ConvBlock(nn.Module):
    """norm, SiLU, convolution, twice, beside a shortcut; `n_embedding` features shift and scale."""

    def __init__(self, width: int, out: int, kernel: int, n_embedding: int = 0) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(width), nn.Conv1d(width, out, kernel, 1, kernel // 2)
        self.norm2, self.conv2 = norm(out), nn.Conv1d(out, out, kernel, 1, kernel // 2)
        self.shortcut = nn.Identity() if width == out else nn.Conv1d(width, out, 1)
        self.modulate = nn.Linear(n_embedding, 2 * out) if n_embedding else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        y = self.norm2(y)
        if self.modulate is not None and embedding is not None:
            scale, shift = self.modulate(embedding)[:, :, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        return self.shortcut(x) + self.conv2(nn.functional.silu(y))


class Attention(nn.Module):
    """Self-attention over time, beside a shortcut."""

    def __init__(self, width: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = width // head_width
        self.norm = norm(width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.out = nn.Conv1d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        n, width, length = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, width // self.heads, length)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        weight = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        y = (weight @ v).transpose(2, 3).reshape(n, width, length)
        return x + self.out(y)


class Downsample(nn.Module):
    """Half the length by a strided convolution."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, out, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Twice the length by repetition and a convolution."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, out, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.repeat_interleave(x, 2, dim=2))
