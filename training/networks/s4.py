"""S4D: layers of diagonal linear state spaces, each a convolution as long as the signal.

(Gu et al. 2022, doi 10.48550/arXiv.2206.11893; on ECGs, S4: Mehari and Strodthoff 2023, doi
10.48550/arXiv.2308.15291.) Initialised as S4D-Lin, both directions. It is exported whole: a
graph's kernels are constants, which the runtime works out once, and the convolution is three
Fourier transforms by the operator DFT. In bf16 the kernels stay float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.networks.masks import N_INPUTS, inside, mean_and_peak, with_masks

DT_MIN, DT_MAX = 1e-3, 1e-1


@dataclass(frozen=True)
class S4Config:
    """Width and number of layers; `states` of a channel, half of them, the others are conjugate."""

    width: int = 128
    layers: int = 4
    states: int = 64
    dropout: float = 0.1


class S4(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs]."""

    def __init__(self, n_outputs: int, config: S4Config) -> None:
        super().__init__()
        self.encode = nn.Conv1d(N_INPUTS, config.width, 1)
        self.layers = nn.ModuleList(
            Layer(config.width, config.states, config.dropout) for _ in range(config.layers)
        )
        self.head = nn.Linear(2 * config.width, n_outputs)

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        x = self.encode(with_masks(sig, lead_mask, sample_mask))
        within = inside(x, sample_mask, stride=1)
        for layer in self.layers:
            x = layer(x, within)
        return self.head(mean_and_peak(x, within))


class Layer(nn.Module):
    """Normalise, convolve each channel over time, mix channels through a gate; beside a shortcut.

    The convolution sees zeros outside the signal, so padding has no say.
    """

    def __init__(self, width: int, states: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ssm = DiagonalSSM(width, states)
        self.mix = nn.Sequential(
            nn.GELU(), nn.Dropout(dropout), nn.Conv1d(width, 2 * width, 1), nn.GLU(dim=1)
        )

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        y = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.mix(self.ssm(y * inside))


class DiagonalSSM(nn.Module):
    """x [n, width, time] -> the same: a convolution with kernels of two directions, and D x.

    The paper's letters: A is diagonal, B is ones, C is learned, dt is each channel's time step.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        half = states // 2
        low, high = math.log(DT_MIN), math.log(DT_MAX)
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(width))
        self.log_a_real = nn.Parameter(torch.full((width, half), math.log(0.5)))
        self.a_imag = nn.Parameter(math.pi * torch.arange(half).repeat(width, 1))
        self.C = nn.Parameter(torch.randn(2, width, half, 2) * 0.5**0.5)
        self.D = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[2]
        size = 1 << (2 * length - 1).bit_length()
        ahead, back = self.kernels(length)
        gap = torch.zeros(len(ahead), size - 2 * length, device=x.device)
        both = torch.cat([ahead, gap, back.flip(1)], dim=1)
        x = x.float()
        spectrum = torch.fft.rfft(x, n=size) * torch.fft.rfft(both, n=size)
        y = torch.fft.irfft(spectrum, n=size)[:, :, :length]
        return y + self.D[:, None] * x

    def kernels(self, length: int) -> tuple[Tensor, Tensor]:
        """[width, length] ahead and back: 2 Re(C (exp(dt A) - 1) / A exp(dt A t)), zero-order hold.

        In real numbers, and without products of matrices: exporters know no complex exponential,
        and mixed precision would round them.
        """
        dt = self.log_dt.exp()[:, None]
        a_real, a_imag = -self.log_a_real.exp(), self.a_imag
        real, imag = dt * a_real, dt * a_imag
        step_real, step_imag = real.exp() * imag.cos() - 1, real.exp() * imag.sin()
        square = a_real**2 + a_imag**2
        b_real = (step_real * a_real + step_imag * a_imag) / square
        b_imag = (step_imag * a_real - step_real * a_imag) / square
        c_real, c_imag = self.C.unbind(dim=3)
        w_real = c_real * b_real - c_imag * b_imag
        w_imag = c_real * b_imag + c_imag * b_real
        t = torch.arange(length, device=dt.device)
        decay = (real[:, :, None] * t).exp()
        cos, sin = (imag[:, :, None] * t).cos() * decay, (imag[:, :, None] * t).sin() * decay
        ahead, back = (
            2 * (w_real[i][:, :, None] * cos - w_imag[i][:, :, None] * sin).sum(dim=1)
            for i in range(2)
        )
        return ahead, back
