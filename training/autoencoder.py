"""The autoencoder of ECG-LDM: 8 leads x 1,000 samples <-> 16 x 128 latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.blocks import ConvBlock, Downsample, Upsample, norm
from training.prednet import N_LEADS

PADDED = 1024


@dataclass(frozen=True)
class AutoencoderConfig:
    """Widths at lengths 1024, 512, 256 and 128; weights of the loss's terms."""

    widths: tuple[int, ...] = (32, 48, 96, 128)
    n_latents: int = 16
    kernel: int = 7
    kl_weight: float = 1e-3
    stft_weight: float = 0.1


class Autoencoder(nn.Module):
    """encode: mV [n, 8, 1000] -> mean and log-variance [n, 16, 128]; decode: the way back."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c, k = config, config.kernel
        widths, last = c.widths, c.widths[-1]
        self.stem = nn.Conv1d(N_LEADS, widths[0], k, 1, k // 2)
        down: list[nn.Module] = []
        for width, out in zip(widths, widths[1:], strict=False):
            down += [ConvBlock(width, width, k), Downsample(width, out)]
        self.encoder = nn.Sequential(
            *down, ConvBlock(last, last, k), norm(last), nn.SiLU(),
            nn.Conv1d(last, 2 * c.n_latents, 1),
        )  # fmt: skip
        up: list[nn.Module] = [nn.Conv1d(c.n_latents, last, k, 1, k // 2), ConvBlock(last, last, k)]
        for width, out in zip(widths[::-1], widths[-2::-1], strict=False):
            up += [Upsample(width, out), ConvBlock(out, out, k)]
        self.decoder = nn.Sequential(
            *up, norm(widths[0]), nn.SiLU(), nn.Conv1d(widths[0], N_LEADS, k, 1, k // 2)
        )

    def encode(self, sig: Tensor) -> tuple[Tensor, Tensor]:
        n_pad = PADDED - sig.shape[2]
        padded = nn.functional.pad(sig, (n_pad // 2, n_pad - n_pad // 2), mode="replicate")
        mean, logvar = self.encoder(self.stem(padded)).chunk(2, dim=1)
        return mean, logvar.clamp(-20, 10)

    def decode(self, latents: Tensor, n_samples: int = 1000) -> Tensor:
        sig = self.decoder(latents)
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
