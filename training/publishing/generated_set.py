"""Sets of generated ECGs as files: what `training.generate` writes, and generated shards."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ecg.card import GeneratorCard
from ecg.generated import twelve_leads
from ecg.labels import Labels
from ecg.leads import LEADS
from training import shards
from training.ldm.latents import labels_of
from training.sources import generated

CHUNK = 1000  # ECGs at a time: 48 MB


@dataclass(frozen=True)
class GeneratedSet:
    """labels: what each ECG was asked to be; chunks: yields them, float32 mV [k, 12, time];
    from_records: the labels are those of real records, one by one."""

    labels: list[Labels]
    chunks: Callable[[], Iterator[np.ndarray]]
    fs: float
    seed: int
    num_steps: int
    guidance_scale: float
    from_records: bool


def open_set(
    path: Path,
    card: GeneratorCard,
    seed: int | None = None,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
) -> GeneratedSet:
    """A set that the generator of `card` made; a shard does not say from which seed and with which
    settings. Errors: SystemExit."""
    said = {"--seed": seed, "--num-steps": num_steps, "--guidance-scale": guidance_scale}
    try:
        with np.load(path, allow_pickle=False) as f:
            names = set(f.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{path} is no NPZ of training.generate: {error}") from None
    if {"preparation", "sig", "record"} <= names:
        if missing := [name for name, value in said.items() if value is None]:
            raise SystemExit(f"{path} is a shard, which does not say it: give {', '.join(missing)}")
        assert seed is not None and num_steps is not None and guidance_scale is not None
        return _of_shard(path, card, seed, num_steps, guidance_scale)
    if not {"data", "fs", "seed", "generator"} <= names:
        raise SystemExit(
            f"{path} does not say which generator made it: make it with training.generate as NPZ"
        )
    if given := [name for name, value in said.items() if value is not None]:
        raise SystemExit(f"{path} says by itself how it was made: leave {', '.join(given)} out")
    return _of_npz(path, card)


def _of_npz(path: Path, card: GeneratorCard) -> GeneratedSet:
    with np.load(path, allow_pickle=False) as f:
        made_by: Mapping = json.loads(str(f["generator"]))
        n, fs, seed = len(f["label"]), float(f["fs"]), int(f["seed"])
        leads = tuple(f["leads"].tolist())
    for weights in ("sha256", "decoder_sha256"):
        if made_by.get(weights) != getattr(card, weights):
            raise SystemExit(
                f"{path} was made by {made_by.get('name')} {made_by.get('version')}, and this is "
                f"{card.name} {card.version} with another {weights}: say which with --store, --name"
            )
    if leads != LEADS or "labels" not in made_by:
        raise SystemExit(f"{path} is not as training.generate makes sets: make it again")
    asked = [Labels(**{**x, "statements": tuple(x["statements"])}) for x in made_by["labels"]]
    return GeneratedSet(
        labels=[asked[row % len(asked)] for row in range(n)],
        chunks=partial(_stored, path),
        fs=fs,
        seed=seed,
        num_steps=made_by["num_steps"],
        guidance_scale=made_by["guidance_scale"],
        from_records=False,
    )


def _stored(path: Path) -> Iterator[np.ndarray]:
    """`data` [n, time, lead] of the NPZ, read as it comes: it may be more than memory holds."""
    with zipfile.ZipFile(path) as archive, archive.open("data.npy") as f:
        np.lib.format.read_magic(f)
        shape, _, dtype = np.lib.format.read_array_header_1_0(f)
        row = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], CHUNK):
            k = min(CHUNK, shape[0] - start)
            flat = np.frombuffer(f.read(k * row), dtype)
            yield flat.reshape(k, *shape[1:]).transpose(0, 2, 1)


def _of_shard(
    path: Path, card: GeneratorCard, seed: int, num_steps: int, guidance_scale: float
) -> GeneratedSet:
    part = shards.load(path)
    if part.source != generated.NAME:
        raise SystemExit(f"{path} holds {part.source}: a patient's ECG is not for publishing")
    if not part.lead_mask.all() or (part.n_valid < part.sig.shape[2]).any():
        raise SystemExit(f"{path}: some ECGs lack a lead or an end, which no generator makes")

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, len(part.sig), CHUNK):
            yield twelve_leads(part.sig[start : start + CHUNK].astype(np.float32))

    return GeneratedSet(
        labels=[labels_of(part, i, card.statements) for i in range(len(part.sig))],
        chunks=chunks,
        fs=part.preparation.fs,
        seed=seed,
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        from_records=True,
    )
