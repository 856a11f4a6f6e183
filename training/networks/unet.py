"""ECG-LDM's U-Net as a classifier: what it learned by denoising, pooled, and a head.

(Baranchuk et al. 2022, doi 10.48550/arXiv.2112.03126; Xiang et al. 2023, doi
10.1109/ICCV51070.2023.01448: what a denoiser knows is found in its middle, at little noise.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.ldm.autoencoder import PADDED, Autoencoder, AutoencoderConfig
from training.ldm.denoiser import Denoiser, DenoiserConfig
from training.networks.masks import inside, mean_and_peak


@dataclass(frozen=True)
class UNetConfig:
    """Runs of the `autoencoder` and the `denoiser`, which has learned nothing where none is named;
    the `layer` (a name in the U-Net's `layers`, its last where there is none) at the noise level
    `sigma` whose answers are pooled.
    `frozen`: only the head learns. The autoencoder never does. Sizes are the runs' own; those here
    are of networks without one."""

    autoencoder: str = ""
    denoiser: str = ""
    layer: str = "middle"
    sigma: float = 0.2
    frozen: bool = False
    dropout: float = 0.3
    autoencoder_widths: tuple[int, ...] = AutoencoderConfig.widths
    autoencoder_blocks: int = AutoencoderConfig.blocks
    widths: tuple[int, ...] = DenoiserConfig.widths
    blocks: int = DenoiserConfig.blocks
    n_embedding: int = DenoiserConfig.n_embedding


class UNet(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs].

    Errors: SystemExit for a layer that is not there.
    """

    def __init__(self, n_outputs: int, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = _autoencoder(config).requires_grad_(False)
        denoiser, known = _denoiser(config, self.autoencoder.linear_in.out_channels)
        self.net, self.sigma_data = denoiser.net, denoiser.sigma_data
        layer = config.layer or self.net.layers[-1]
        if layer not in self.net.layers:
            raise SystemExit(f"layer {layer}: one of {', '.join(self.net.layers)}")
        self.net.cut(self.net.layers.index(layer))
        self.net.embed_labels.weight.requires_grad_(False)  # no label is told
        del self.autoencoder.decoder, self.autoencoder.linear_out
        self.offset = nn.Buffer(torch.tensor(known["offset"])[:, None])
        self.scale = nn.Buffer(torch.tensor(known["scale"])[:, None])
        if config.frozen:
            self.net.requires_grad_(False)
        self.normalise = nn.LazyBatchNorm1d(affine=False)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.LazyLinear(n_outputs))
        with torch.no_grad():  # the sizes of what is lazy
            self(torch.zeros(2, 8, 1000), torch.ones(2, 8), torch.ones(2, 1000))
        self.normalise.reset_running_stats()

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        masked = sig * lead_mask[:, :, None] * sample_mask[:, None, :]
        x = activations(self.net, self.latents(masked), self.config.sigma, self.sigma_data)[-1]
        n_pad = PADDED - sig.shape[2]
        padded = nn.functional.pad(sample_mask, (n_pad // 2, n_pad - n_pad // 2))
        pooled = mean_and_peak(x, inside(x, padded, PADDED // x.shape[2]))
        return self.head(torch.cat([self.normalise(pooled), lead_mask], dim=1))

    @torch.no_grad()
    def latents(self, sig: Tensor) -> Tensor:
        """As the denoiser knows them."""
        return (self.autoencoder.encode(sig)[0] - self.offset) / self.scale


def activations(
    net: nn.Module, latents: Tensor, sigma: float, sigma_data: float, labels: Tensor | None = None
) -> list[Tensor]:
    """What each layer of a denoiser's U-Net makes of latents [n, latents, time] that it is told
    have noise of that level; labels [n, features], none where they are not given."""
    n, n_labels = latents.shape[0], net.embed_labels.in_features
    c_noise = latents.new_full((n,), sigma).log() / 4
    if labels is None:
        labels = latents.new_zeros(n, n_labels)
    return net.activations(latents / (sigma**2 + sigma_data**2) ** 0.5, c_noise, labels)


def _autoencoder(config: UNetConfig) -> Autoencoder:
    if not config.autoencoder:
        sizes = {"widths": config.autoencoder_widths, "blocks": config.autoencoder_blocks}
        return Autoencoder(AutoencoderConfig(**sizes))
    run = Path(config.autoencoder)
    sizes = json.loads((run / "run.json").read_text())["model"]
    model = Autoencoder(AutoencoderConfig(**sizes))
    model.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    return model


def _denoiser(config: UNetConfig, n_latents: int) -> tuple[Denoiser, dict[str, Any]]:
    """A denoiser, and what its run says of its latents."""
    if not config.denoiser:
        sizes = {k: getattr(config, k) for k in ("widths", "blocks", "n_embedding")}
        known = {"offset": [0.0] * n_latents, "scale": [1.0] * n_latents}
        return Denoiser(n_latents, 1, DenoiserConfig(**sizes)), known
    run = Path(config.denoiser)
    known = json.loads((run / "run.json").read_text())
    weights = torch.load(run / "best.pt", map_location="cpu", weights_only=True)
    sizes = DenoiserConfig(**known["config"]["model"])
    model = Denoiser(n_latents, weights["net.embed_labels.weight"].shape[1], sizes)
    model.load_state_dict(weights)
    return model, known
