"""ECG-LDM as one of the generators: both of its stages by one command, and what it can make.

A run is this command's, or `training.train_denoiser`'s, or a folder of the model store.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ecg.card import Diffusion
from ecg.generation import generate_many
from ecg.labels import Labels
from ecg.store import CARD, load_generator
from training import export_generator, processes, shards, train_autoencoder, train_denoiser
from training.generators.maker import Given, Maker, Sampler, description, device, only_known
from training.ldm.denoiser import Denoiser

AUTOENCODER, DENOISER, DATA = "autoencoder", "denoiser", "data"
STAGES = (AUTOENCODER, DENOISER)
POSITIONS = 128
SAMPLER = ("num_steps", "guidance_scale", "guidance_interval", "sigma_min", "sigma_max", "rho")


def train(given: Given) -> None:
    """The autoencoder and, once that is finished, the denoiser, on the same records. An override
    is STAGE.TABLE.KEY=VALUE; the minutes are of both together."""
    run, started = given.run, time.monotonic()
    options = {stage: ["--preset", given.preset, "--data", str(run / DATA)] for stage in STAGES}
    options[DENOISER] += ["--autoencoder", str(run / AUTOENCODER)]
    for override in given.overrides:
        stage, _, rest = override.partition(".")
        if stage not in STAGES:
            raise SystemExit(f"--set {override}: expected {' or '.join(STAGES)}.TABLE.KEY=VALUE")
        options[stage] += ["--set", rest]
    if given.dry_run:
        train_autoencoder.main([*options[AUTOENCODER], "--dry-run"])
        return
    given.describe()
    _write(given.part, run / DATA / f"{given.part.source}.npz")
    for stage, module in zip(STAGES, (train_autoencoder, train_denoiser), strict=True):
        left = given.minutes - (time.monotonic() - started) / 60
        limit = [] if math.isinf(left) else ["--minutes", str(max(0.0, left))]
        module.main([*options[stage], "--run", str(run / stage), *limit])
        if not processes.first_says(_is_finished(run / stage)):
            processes.say(f"The {stage} is not finished: the same command goes on with it")
            return


def _write(part: shards.Shard, path: Path) -> None:
    """Written by each process, beside and renamed: they may be on machines of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
    shards.save(part, beside)
    beside.replace(path)


def _is_finished(run: Path) -> bool:
    if not processes.is_first():
        return False
    known = json.loads((run / "run.json").read_text())
    steps = known.get("config", known)["loop"]["steps"]
    return torch.load(run / "checkpoint.pt", weights_only=True)["step"] >= steps


def load(run: Path, sampler: Sampler) -> Maker:
    """A stored generator, or the best weights of a run."""
    only_known("ldm", sampler, *SAMPLER)
    if (run / CARD).exists():
        generator, workers = load_generator(run), os.cpu_count() or 1
    else:
        generator, workers = _trained(run), 1
    diffusion = generator.card.diffusion.model_copy(update=dict(sampler))

    def make(labels: Sequence[Labels], seed: int) -> np.ndarray:
        batches = generate_many(
            generator, labels, range(len(labels)), seed, diffusion, workers=workers
        )  # fmt: skip
        return np.concatenate(list(batches))

    return Maker(tuple(generator.card.statements), make)


@dataclass(frozen=True)
class _Described:
    statements: tuple[str, ...]
    latents: tuple[int, int]
    diffusion: Diffusion


@dataclass(frozen=True)
class _Trained:
    """A run's networks, as `ecg.generation` asks a stored generator's."""

    card: _Described
    denoiser: Denoiser
    decoder: export_generator.Decoder

    def denoise(self, x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return _run(self.denoiser, x, sigma, labels)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return _run(self.decoder, latents)


def _run(network: torch.nn.Module, *inputs: np.ndarray) -> np.ndarray:
    where = next(network.parameters()).device
    with torch.inference_mode():
        given = (torch.from_numpy(a.astype(np.float32)).to(where) for a in inputs)
        return network(*given).float().cpu().numpy()


def _trained(run: Path) -> _Trained:
    run = run / DENOISER if (run / DENOISER).exists() else run
    known = description(run, "ldm")
    if not Path(known["autoencoder"]).exists():  # named from where it was trained
        known["autoencoder"] = str(run.parent / Path(known["autoencoder"]).name)
    denoiser, decoder = export_generator.load(run, known)
    card = _Described(
        statements=tuple(known["statements"]),
        latents=(len(known["offset"]), POSITIONS),
        diffusion=export_generator.mapped(known)
        if "flow_map" in known
        else export_generator.default_diffusion(denoiser.sigma_data),
    )
    return _Trained(card, denoiser.to(device()), decoder.to(device()))
