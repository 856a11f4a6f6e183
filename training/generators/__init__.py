"""Generators of ECGs, all trained by one command and all asked in one way.

maker = load("ddpm", Path("runs/ddpm"))
sig = maker.make([Labels(statements=("AFIB",))] * 8, seed=0)  # float32 mV [8, 8, 1000]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from training.generators import adversarial_runs, controls, ddpm, ldm
from training.generators.maker import Given, Maker, Sampler


@dataclass(frozen=True)
class Method:
    """How a generator is trained, and how its run is loaded. `presets`: the first word of its
    presets' names; None where there is nothing to set."""

    train: Callable[[Given], None]
    load: Callable[[Path, Sampler], Maker]
    presets: str | None
    said: str


METHODS: dict[str, Method] = {
    "d2gan": Method(
        adversarial_runs.train,
        partial(adversarial_runs.load, name="d2gan"),
        "d2gan",
        "two discriminators",
    ),
    "wgan-gp": Method(
        adversarial_runs.train,
        partial(adversarial_runs.load, name="wgan-gp"),
        "wgan-gp",
        "one critic, its slope penalised",
    ),
    "ddpm": Method(ddpm.train, ddpm.load, "ddpm", "plain diffusion in signal space"),
    "ldm": Method(ldm.train, ldm.load, "denoiser", "ECG-LDM: an autoencoder, then its denoiser"),
    "copies": Method(
        controls.train,
        controls.load_copies,
        None,
        "a control: the nearest training ECG, as it is",
    ),
    "augmented": Method(
        controls.train,
        controls.load_augmented,
        None,
        "a control: the nearest training ECG, disturbed",
    ),
}


def load(name: str, run: Path, **sampler: Any) -> Maker:
    """What the run of a generator can make. `sampler`: its options, such as `num_steps` and
    `guidance_scale` of those that diffuse; otherwise the run's own.

    Errors: SystemExit where there is no such generator, run or option.
    """
    if name not in METHODS:
        raise SystemExit(f"no generator {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name].load(run, sampler=sampler)
