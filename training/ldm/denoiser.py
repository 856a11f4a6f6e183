"""The denoiser of ECG-LDM: a 1-D U-Net over latents, preconditioned as in EDM.

Outside, everyone sees D(x; sigma, labels) only (Karras et al. 2022, doi 10.48550/arXiv.2206.00364).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ecg.labels import features
from training.ldm.blocks import Attention, ConvBlock, Downsample, Upsample, norm

LANES = 64


@dataclass(frozen=True)
class DenoiserConfig:
    """Widths at lengths 128, 64 and 32 (attention at all but the first), blocks a length; the
    noise levels of training."""

    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    kernel: int = 3
    n_embedding: int = 256
    sigma_data: float = 0.5
    P_mean: float = -0.6
    P_std: float = 1.2


class Denoiser(nn.Module):
    """D(x; sigma, labels): x [n, latents, time], sigma [n], labels [n, features] -> denoised."""

    def __init__(self, n_latents: int, n_labels: int, config: DenoiserConfig) -> None:
        super().__init__()
        self.sigma_data = config.sigma_data
        self.net = UNet(n_latents, n_labels, config)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        sigma = sigma[:, None, None]
        total = sigma**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / total
        c_out = sigma * self.sigma_data / total.sqrt()
        c_in = 1 / total.sqrt()
        # As long as a processor's vectors: the logarithm of a lone value has other last bits, and a
        # row's answer must not depend on its company.
        c_noise = sigma[:, :, 0].expand(-1, LANES).log()[:, 0] / 4
        return c_skip * x + c_out * self.net(c_in * x, c_noise, labels).to(x.dtype)


def told(known: Mapping[str, Any]) -> tuple[str, ...]:
    """The name of each feature that a run's network is told beside x and sigma; a flow map hears of
    guidance and of the level to jump to (`ecg.sampling.flow_map_features`)."""
    names = features(known["statements"])
    if "flow_map" not in known:
        return names
    n_levels = known["flow_map"]["diffusion"]["num_steps"]
    return (*names, "guidance", *(f"level {i + 1}" for i in range(n_levels)))


class UNet(nn.Module):
    """Down, middle and up with skips; noise level and labels modulate every block."""

    def __init__(self, n_latents: int, n_labels: int, config: DenoiserConfig) -> None:
        super().__init__()
        widths, k, e = config.widths, config.kernel, config.n_embedding
        self.frequencies = nn.Buffer(torch.exp(torch.linspace(0, math.log(1000), 32)))
        self.embed_noise = nn.Linear(64, e)
        # Few features are on at a time: scaled so, a rare one is learned as fast as the rest
        # (Karras et al. 2024, doi 10.1109/CVPR52733.2024.02282, do the same).
        self.label_scale = math.sqrt(n_labels)
        self.embed_labels = nn.Linear(n_labels, e)
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.stem = nn.Conv1d(n_latents, widths[0], k, 1, k // 2)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips = [widths[0]]
        width = widths[0]
        for level, out in enumerate(widths):
            if level:
                self.down.append(Downsample(width, out))
                width = out
                skips.append(width)
            for _ in range(config.blocks):
                self.down.append(Stage(width, out, k, e, attention=level > 0))
                width = out
                skips.append(width)
        self.middle = Stage(width, width, k, e, attention=True)
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(Stage(width + skips.pop(), out, k, e, attention=level > 0))
                width = out
            if level:
                self.up.append(Upsample(width, widths[level - 1]))
                width = widths[level - 1]
        self.out = nn.Sequential(norm(width), nn.SiLU(), nn.Conv1d(width, n_latents, k, 1, k // 2))
        nn.init.zeros_(self.out[-1].weight)

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor) -> Tensor:
        return self.out(self.activations(x, c_noise, labels)[-1])

    def activations(self, x: Tensor, c_noise: Tensor, labels: Tensor) -> list[Tensor]:
        """What each part makes, in the order of `layers`."""
        angle = c_noise[:, None] * self.frequencies
        wave = torch.cat([angle.cos(), angle.sin()], dim=1)
        e = self.embed(self.embed_noise(wave) + self.embed_labels(labels * self.label_scale))
        made = [self.stem(x)]
        skips = [0]
        middle = () if self.middle is None else (self.middle,)
        for i, part in enumerate((*self.down, *middle, *self.up)):
            x = made[-1]
            if i > len(self.down) and isinstance(part, Stage):
                x = torch.cat([x, made[skips.pop()]], dim=1)
            made.append(part(x, e) if isinstance(part, Stage) else part(x))
            if i < len(self.down):
                skips.append(len(made) - 1)
        return made

    def cut(self, last: int) -> None:
        """Leave out what comes after that layer, by its place in `layers`."""
        n = len(self.down)
        self.up = self.up[: max(0, last - n - 1)]
        if last <= n:
            self.middle = None
        self.down = self.down[:last]
        self.out = nn.Identity()

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of `activations`, those of the parameters behind them."""
        down, up = (
            [f"{side}.{i}" for i in range(len(getattr(self, side)))] for side in ("down", "up")
        )
        return ("stem", *down, "middle", *up)


class Stage(nn.Module):
    """A block and, where asked for, attention after it."""

    def __init__(self, width: int, out: int, kernel: int, n_embedding: int, attention: bool):
        super().__init__()
        self.block = ConvBlock(width, out, kernel, n_embedding)
        self.attention = Attention(out) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.block(x, embedding))


class DenoisingLoss:
    """EDM's loss, weighted by noise level (eq. 8); sigma from a log-normal distribution.

    A batch may bring its own `noise` and `sigma`: then the loss is the same each time.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        x, labels = batch["latents"], batch["labels"]
        return noisy_errors(
            model, x, labels, self.config, batch.get("sigma"), batch.get("noise")
        ).mean()


def noisy_errors(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    c: DenoiserConfig,
    sigma: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """[n]: the weighted error of each x [n, latents, time] denoised; noise levels and noise are
    drawn where they are not given."""
    if sigma is None:
        sigma = (c.P_mean + c.P_std * torch.randn(len(x), device=x.device)).exp()
    if noise is None:
        noise = torch.randn_like(x)
    denoised = model(x + sigma[:, None, None] * noise, sigma, labels).float()
    weight = (sigma**2 + c.sigma_data**2) / (sigma * c.sigma_data) ** 2
    return weight * (denoised - x).square().mean(dim=(1, 2))
