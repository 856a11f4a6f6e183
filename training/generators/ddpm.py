"""A plain diffusion model of the signal itself (Ho et al. 2020, doi 10.48550/arXiv.2006.11239).

x [n, 8, n_samples] is normalised, rms 1 a lead; t = 1 ... n_steps as in the paper, alpha_bar(0) 1.
The network is ECG-LDM's U-Net over patches of the signal, and predicts the noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ecg.labels import Labels, n_features
from training import config as configs
from training import processes
from training.generators.maker import (
    Given,
    Maker,
    Sampler,
    best_weights,
    description,
    device,
    in_batches,
    only_known,
)
from training.generators.signals import encoded, from_patches, signals, to_patches
from training.ldm.denoiser import DenoiserConfig, UNet
from training.ldm.latents import LabelConfig
from training.loop import LoopConfig
from training.loop import train as train_network
from training.prednet import N_LEADS


@dataclass(frozen=True)
class DdpmConfig:
    """The U-Net's sizes, its longest length being 1024 / patch; the noise of the forward process,
    linear from beta_1 to beta_T in n_steps."""

    patch: int = 8
    widths: tuple[int, ...] = (64, 128, 192)
    blocks: int = 1
    kernel: int = 3
    n_embedding: int = 256
    n_steps: int = 1000
    beta_1: float = 1e-4
    beta_T: float = 0.02


@dataclass(frozen=True)
class SamplingConfig:
    """Steps of the n_steps that are taken, evenly spread; classifier-free guidance (1 = off);
    `limit` of the estimated signal, in units of rms, as images are kept within their range."""

    num_steps: int = 50
    guidance_scale: float = 1.5
    limit: float = 15.0


@dataclass(frozen=True)
class DdpmRun:
    model: DdpmConfig = field(default_factory=DdpmConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


class Ddpm(nn.Module):
    """epsilon(x, t [n], labels [n, features]), like x.

    The best guess of the noise in a Gaussian signal is sqrt(1 - alpha_bar) x; the network adds what
    is known of ECGs, by sqrt(alpha_bar), which is how much there can be to add: so an error at the
    noisiest steps stays one of the signal's size (after Salimans and Ho 2022, doi
    10.48550/arXiv.2202.00512; the loss is that of the noise).
    """

    def __init__(self, n_labels: int, config: DdpmConfig) -> None:
        super().__init__()
        c = config
        sizes = DenoiserConfig(c.widths, c.blocks, c.kernel, c.n_embedding)
        self.patch, self.n_steps = c.patch, c.n_steps
        self.alpha_bar = nn.Buffer(alpha_bars(c).float(), persistent=False)
        self.net = UNet(N_LEADS * c.patch, n_labels, sizes)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        found = self.net(to_patches(x, self.patch), t / self.n_steps, labels)
        found = from_patches(found, self.patch, x.shape[2]).to(x.dtype)
        alpha_bar = self.alpha_bar[t][:, None, None]
        return (1 - alpha_bar).sqrt() * x + alpha_bar.sqrt() * found


def alpha_bars(config: DdpmConfig) -> Tensor:
    """float64 [1 + n_steps]: the share of the signal in x_t's variance, from 1 at t = 0."""
    beta = torch.linspace(config.beta_1, config.beta_T, config.n_steps, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(dim=0)])


class NoiseLoss:
    """Error of the predicted noise (eq. 14). A batch may bring its own `t` and `noise`: then the
    loss is the same each time."""

    def __init__(self, config: DdpmConfig) -> None:
        self.n_steps, self.alpha_bar = config.n_steps, alpha_bars(config).float()

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        x = batch["latents"]
        t, noise = batch.get("t"), batch.get("noise")
        if t is None:
            t = torch.randint(1, self.n_steps + 1, (len(x),), device=x.device)
        if noise is None:
            noise = torch.randn_like(x)
        alpha_bar = self.alpha_bar.to(x.device)[t][:, None, None]
        noisy = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
        return ((model(noisy, t, batch["labels"]).float() - noise) ** 2).mean()


def sample(
    epsilon: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    alpha_bar: Tensor,
    num_steps: int,
    limit: float,
    chance: torch.Generator,
) -> Tensor:
    """Ancestral sampling from noise x at `num_steps` of the trained steps (Ho et al., eqs. 6, 7 and
    15, the posterior's variance; strided as in Nichol and Dhariwal 2021, doi
    10.48550/arXiv.2102.09672, section 4).

    epsilon: (x, t [n]) -> the predicted noise. chance: of the CPU, the same wherever x is.
    """
    steps = torch.linspace(len(alpha_bar) - 1, 0, num_steps + 1).round().long()
    for t, following in zip(steps[:-1].tolist(), steps[1:].tolist(), strict=True):
        now, then = float(alpha_bar[t]), float(alpha_bar[following])
        beta = 1 - now / then
        noise = epsilon(x, torch.full((len(x),), t, device=x.device))
        clean = ((x - (1 - now) ** 0.5 * noise) / now**0.5).clamp(-limit, limit)
        x = (then**0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - then) * x) / (1 - now)
        if following:
            drawn = torch.randn(x.shape, generator=chance).to(x.device)
            x = x + (beta * (1 - then) / (1 - now)) ** 0.5 * drawn
    return x


def train(given: Given) -> None:
    """Fold 9 chooses the weights: the least error of predicted noise, all labels given."""
    config = configs.load(DdpmRun, given.name, given.preset, list(given.overrides))
    if given.dry_run:
        processes.say(configs.dump(config))
        return
    found = signals(given.part)
    set_seed(config.loop.seed)
    model = Ddpm(n_features(found.statements), config.model)
    size = sum(p.numel() for p in model.parameters())
    processes.say(f"{size:,} parameters; {len(found.statements)} statements")
    processes.agree(configs.dump(config), [given.part], model.parameters())
    given.describe(
        config=json.loads(configs.dump(config)),
        statements=found.statements,
        n_samples=given.part.sig.shape[2],
        offset=found.offset.ravel().tolist(),
        scale=found.scale.ravel().tolist(),
    )
    held_out, labels = found.fold_9()
    chance = torch.Generator().manual_seed(9)
    fixed = {
        "latents": held_out,
        "labels": labels,
        "t": torch.randint(1, config.model.n_steps + 1, (len(held_out),), generator=chance),
        "noise": torch.randn(held_out.shape, generator=chance),
    }
    loss = NoiseLoss(config.model)

    def evaluate(ema: nn.Module) -> dict[str, float]:
        where = next(ema.parameters()).device
        value = float(loss(ema, {k: v.to(where) for k, v in fixed.items()}))
        return {"loss": value, "score": -value}

    batches = found.batches(config.labels, config.loop)
    train_network(model, loss, batches, evaluate, config.loop, given.run, given.minutes)


def load(run: Path, sampler: Sampler) -> Maker:
    """From the best weights of a run."""
    only_known("ddpm", sampler, "num_steps", "guidance_scale")
    known = description(run, "ddpm")
    statements, config = tuple(known["statements"]), DdpmConfig(**known["config"]["model"])
    sampling = replace(SamplingConfig(**known["config"]["sampling"]), **sampler)
    if not 1 <= sampling.num_steps <= config.n_steps:
        raise SystemExit(f"num_steps {sampling.num_steps}: 1 to {config.n_steps}")
    model = Ddpm(n_features(statements), config)
    model.load_state_dict(best_weights(run))
    model.eval().to(where := device())
    offset, scale = (torch.tensor(known[k])[:, None] for k in ("offset", "scale"))
    alpha_bar, shape = alpha_bars(config), (N_LEADS, known["n_samples"])
    is_bf16 = known["config"]["loop"]["precision"] == "bf16"

    def one(labels: Sequence[Labels], chance: torch.Generator) -> Tensor:
        told = encoded(labels, statements).to(where)

        def epsilon(x: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(where.type, torch.bfloat16, enabled=is_bf16):
                return guided(model, x, t, told, sampling.guidance_scale)

        x = torch.randn((len(labels), *shape), generator=chance).to(where)
        steps, limit = int(sampling.num_steps), sampling.limit
        return sample(epsilon, x, alpha_bar, steps, limit, chance).cpu() * scale + offset

    def make(labels: Sequence[Labels], seed: int) -> np.ndarray:
        return in_batches(labels, seed, one)

    return Maker(statements, make)


def guided(model: nn.Module, x: Tensor, t: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022, doi 10.48550/arXiv.2207.12598): with and
    without labels in one call."""
    if scale == 1:
        return model(x, t, labels).float()
    twice = torch.cat([labels, torch.zeros_like(labels)])
    told, untold = model(torch.cat([x, x]), torch.cat([t, t]), twice).float().chunk(2)
    return untold + scale * (told - untold)
