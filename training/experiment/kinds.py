"""What each kind of cell is made by: python -m training.experiment.kinds FOLDER makes one."""

from __future__ import annotations

import argparse
import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training import forest
from training.experiment.cell import CELL, DONE, LOCK
from training.generators import Maker, load
from training.judging.fidelity import with_signals
from training.ldm.latents import labels_of
from training.make_set import made_all, made_like, records_of
from training.shards import CODES, Shard, save
from training.shards import load as load_shard
from training.subsets import subset
from training.train_autoencoder import whole_segments
from training.train_classifier import TRAIN
from training.tstr import Trial, run

SET, RUN = "set.npz", "run"


@dataclass(frozen=True)
class Place:
    """Where a cell is made: its settings, the folders of what it needs, its own, and the data's."""

    settings: dict[str, Any]
    needs: list[Path]
    folder: Path
    data: Path

    @property
    def shard(self) -> Path:
        """All the real ECGs."""
        return self.data / f"{self.settings['source']}.npz"

    def real(self) -> Shard:
        """The training records that the cell may see."""
        part = subset(whole_segments(load_shard(self.shard)), self.settings["fraction"], 0)
        return part.folds(TRAIN)


def make_generator(place: Place) -> None:
    """A generator trained on the cell's share of the training records."""
    s = place.settings
    told = ["--fraction", str(s["fraction"]), "--source", s["source"], "--data", str(place.data)]
    if s["preset"]:
        told += ["--preset", s["preset"]]
    for override in s["overrides"]:
        told += ["--set", override]
    where = ["--run", str(place.folder / RUN)]
    command = [sys.executable, "-m", "training.train_generator", s["generator"], *told, *where]
    subprocess.run(command, check=True)  # nosec B603  # a command of ours, without a shell


def make_set(place: Place) -> None:
    """Generated ECGs with the labels of the real training records, `times` as many as there are; or
    `n` for each of the `statements`, with the labels of records that have it."""
    s, part = place.settings, place.real()
    where = Path(s["stored"]) if "stored" in s else place.needs[0] / RUN
    maker = load(s["generator"], where, **s.get("sampler", {}))
    if "statements" in s:
        made = made_with(maker, part, s["statements"], s["n"], s["seed"])
    else:
        made = made_like(maker, part, s["times"], s["seed"])
    save(made, place.folder / SET)


def made_with(maker: Maker, part: Shard, codes: list[str], n: int, seed: int) -> Shard:
    """n ECGs for each of the statements, with all the labels of records that have it."""
    label, rng = part.label[part.record], np.random.default_rng(seed)
    having = [np.flatnonzero(label[:, 1 + CODES.index(code)] == 1) for code in codes]
    rows = np.concatenate([np.resize(rng.permutation(has), n) for has in having])
    sig = made_all(maker, [labels_of(part, i, maker.statements) for i in rows], seed)
    return with_signals(records_of(part, rows), sig, "generated")


def make_part(place: Place) -> None:
    """The first `n` ECGs of a set."""
    made = load_shard(place.needs[0] / SET)
    save(records_of(made, np.arange(place.settings["n"])), place.folder / SET)


def make_classifier(place: Place) -> None:
    """Trained on folds 1-8 of real and generated ECGs; its logits on the real folds 9 and 10."""
    s, real = place.settings, str(place.shard)
    sets = [str(need / SET) for need in place.needs]
    trial = Trial(
        name=place.folder.name,
        training=(*([real] if s["real"] else []), *sets),
        real=real,
        seed=s["seed"],
        steps=s["steps"],
        preset=s["preset"],
        network=s["network"],
        fraction=s["fraction"],
        generated_share=s.get("generated_share"),
        pretrained=s.get("pretrained", 0.0),
        settings=s.get("settings", {}),
    )
    if trial.network == forest.NAME:
        forest.run(replace(trial, steps=forest.N_TREES), place.folder)
    else:
        run(trial, place.folder)


KINDS: dict[str, Callable[[Place], None]] = {
    "generator": make_generator,
    "set": make_set,
    "part": make_part,
    "classifier": make_classifier,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.experiment.kinds")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_cell(args.folder, args.data)


def make_cell(folder: Path, data: Path) -> None:
    """What cell.json says is to lie there, where it does not yet."""
    told = json.loads((folder / CELL).read_text())
    needs = [folder.parent / name for name in told["needs"]]
    with only_one(folder):
        if not (folder / DONE).exists():
            KINDS[told["kind"]](Place(told["settings"], needs, folder, data))
            (folder / DONE).write_text("{}")


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Two experiments on one machine may want the same cell: the second waits for it."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
