"""The autoencoder of ECG-LDM: 8 leads x 1,000 samples <-> 16 x 128 latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.ldm.blocks import (
    ConvBlock,
    Downsample,
    ExactConv1d,
    ExactConvTranspose1d,
    Upsample,
    norm,
)
from training.prednet import N_LEADS

PADDED = 1024


@dataclass(frozen=True)
class AutoencoderConfig:
    """`patch` samples become one position; then widths at each halving of the length, the last at
    the latents'; blocks a length; weights of the loss's terms."""

    patch: int = 4
    widths: tuple[int, ...] = (96, 128)
    blocks: int = 2
    n_latents: int = 16
    kernel: int = 7
    kl_weight: float = 1e-3
    stft_weight: float = 0.1


class Autoencoder(nn.Module):
    """encode: mV [n, 8, 1000] -> mean and log-variance [n, 16, 128]; decode: the way back."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c, k = config, config.kernel
        first, last = c.widths[0], c.widths[-1]
        down: list[nn.Module] = [ExactConv1d(N_LEADS, first, 2 * c.patch, c.patch, c.patch // 2)]
        up: list[nn.Module] = [nn.Conv1d(c.n_latents, last, k, 1, k // 2)]
        for i, width in enumerate(c.widths):
            down += [ConvBlock(width, width, k) for _ in range(c.blocks)]
            if i + 1 < len(c.widths):
                down.append(Downsample(width, c.widths[i + 1]))
        for i, width in reversed(list(enumerate(c.widths))):
            up += [ConvBlock(width, width, k) for _ in range(c.blocks)]
            if i:
                up.append(Upsample(width, c.widths[i - 1]))
        to_latents = nn.Conv1d(last, 2 * c.n_latents, 1)
        # A sampled latent that begins as noise teaches the decoder to ignore it (LOG.md).
        nn.init.constant_(to_latents.bias[c.n_latents :], -6.0)
        self.encoder = nn.Sequential(*down, norm(last), nn.SiLU(), to_latents)
        self.decoder = nn.Sequential(
            *up, norm(first), nn.SiLU(), nn.Conv1d(first, N_LEADS * c.patch, k, 1, k // 2)
        )
        # What a linear map can carry goes past the network, which learns the rest: after Chen et
        # al. 2024, doi 10.48550/arXiv.2410.10733.
        stride = c.patch * 2 ** (len(c.widths) - 1)
        self.linear_in = ExactConv1d(N_LEADS, c.n_latents, 3 * stride, stride, stride)
        self.linear_out = ExactConvTranspose1d(c.n_latents, N_LEADS, 3 * stride, stride, stride)

    def encode(self, sig: Tensor) -> tuple[Tensor, Tensor]:
        n_pad = PADDED - sig.shape[2]
        padded = nn.functional.pad(sig, (n_pad // 2, n_pad - n_pad // 2), mode="replicate")
        mean, logvar = self.encoder(padded).chunk(2, dim=1)
        return mean + self.linear_in(padded), logvar.clamp(-20, 10)

    def decode(self, latents: Tensor, n_samples: int = 1000) -> Tensor:
        patches = self.decoder(latents)  # [n, leads * patch, positions]
        n, _, positions = patches.shape
        sig = patches.reshape(n, N_LEADS, -1, positions).transpose(2, 3).reshape(n, N_LEADS, -1)
        sig = sig + self.linear_out(latents)
        start = (sig.shape[2] - n_samples) // 2
        return sig[:, :, start : start + n_samples]

    def forward(self, sig: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction from sampled latents, and their mean and log-variance."""
        mean, logvar = self.encode(sig)
        latents = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        return self.decode(latents, sig.shape[2]), mean, logvar


class ReconstructionLoss:
    """L1 + MSE + multi-resolution STFT of the reconstruction, and the latents' divergence from a
    unit Gaussian (Kingma and Welling 2014, doi 10.48550/arXiv.1312.6114)."""

    WINDOWS = (32, 64, 128)  # samples: 0.3, 0.6 and 1.3 s

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        sig = batch["sig"]
        out, mean, logvar = (x.float() for x in model(sig))
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        error = (out - sig).abs().mean() + ((out - sig) ** 2).mean()
        spectral = sum((self._stft(out, w) - self._stft(sig, w)).abs().mean() for w in self.WINDOWS)
        return error + self.config.stft_weight * spectral + self.config.kl_weight * kl

    def _stft(self, sig: Tensor, window: int) -> Tensor:
        flat = sig.reshape(-1, sig.shape[2])
        shape = torch.hann_window(window, device=sig.device)
        spectrum = torch.stft(flat, window, window // 4, window=shape, return_complex=True)
        return spectrum.abs() / window**0.5
