"""What every generator has in common: what its training is given, and what a run can then make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg.labels import Labels
from training import processes
from training.shards import Shard
from training.train_classifier import TRAIN

Make = Callable[[Sequence[Labels], int], np.ndarray]
Sampler = Mapping[str, Any]  # what is asked of a sampler, such as its num_steps
BATCH = 64


@dataclass(frozen=True)
class Maker:
    """A generator, ready: `make(labels, seed)` gives float32 mV [n, 8, n_samples], an ECG for each
    of the labels, the same from the same seed. Of `statements` it has heard."""

    statements: tuple[str, ...]
    make: Make


@dataclass(frozen=True)
class Given:
    """What a training is given. `part` holds whole segments of one source, its training folds
    already cut down to `fraction` of them (by `subset_seed`)."""

    name: str
    part: Shard
    fraction: float
    subset_seed: int
    run: Path
    preset: str
    overrides: tuple[str, ...]
    minutes: float
    dry_run: bool

    def describe(self, **known: Any) -> None:
        """Write down what the run is. Errors: SystemExit where it was begun as something else."""
        if not processes.is_first():
            return
        said = {
            "generator": self.name,
            "source": self.part.source,
            "fraction": self.fraction,
            "subset_seed": self.subset_seed,
            "n_training": int(np.isin(self.part.strat_fold, TRAIN).sum()),
        }
        if (path := self.run / "run.json").exists():
            before = json.loads(path.read_text())
            if differing := [key for key, value in said.items() if before.get(key) != value]:
                raise SystemExit(
                    f"{self.run} was begun with another {' and '.join(differing)}: "
                    "remove it, or name another --run"
                )
        self.run.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**said, "preset": self.preset, **known}, indent=1))


def description(run: Path, name: str) -> dict[str, Any]:
    """What a run of this generator wrote down. Errors: SystemExit where it is none."""
    try:
        known = json.loads((run / "run.json").read_text())
    except FileNotFoundError:
        raise SystemExit(
            f"{run} is no run: python -m training.train_generator {name} --run {run}"
        ) from None
    if (made := known.get("generator", name)) != name:
        raise SystemExit(f"{run} is a run of {made}, not of {name}")
    return known


def best_weights(run: Path) -> dict[str, torch.Tensor]:
    """Those that fold 9 chose. Errors: SystemExit where it has not yet chosen any."""
    try:
        return torch.load(run / "best.pt", map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SystemExit(f"{run} has no best weights yet: let it train to an evaluation") from None


def only_known(name: str, sampler: Sampler, *known: str) -> None:
    """Errors: SystemExit where the sampler is told what it does not have."""
    if unknown := sorted(set(sampler) - set(known)):
        raise SystemExit(f"{name} has no {unknown[0]}; it has {', '.join(known) or 'no options'}")


def in_batches(
    labels: Sequence[Labels], seed: int, one: Callable[[Sequence[Labels], torch.Generator], Any]
) -> np.ndarray:
    """`one` batch after another, each with random numbers of its own: what a row becomes does not
    depend on those after its batch."""
    made = []
    for start in range(0, len(labels), BATCH):
        drawn = np.random.SeedSequence((seed, start)).generate_state(1, np.uint64)[0] >> np.uint64(
            1
        )
        chance = torch.Generator().manual_seed(int(drawn))
        with torch.inference_mode():
            made.append(one(labels[start : start + BATCH], chance).float().cpu().numpy())
    return np.concatenate(made)


def device() -> torch.device:
    """Where making is done: the accelerator, if there is one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
