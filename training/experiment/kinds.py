"""The kinds of cells, and the process that makes one: python -m training.experiment.kinds FOLDER."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg.generation import generate_many
from ecg.store import load_generator
from training import fidelity
from training.experiment.cell import CELL, DONE
from training.generators import make
from training.latents import labels_of
from training.shards import CODES, Shard, load, save
from training.subsets import subset
from training.train_autoencoder import whole_segments
from training.train_classifier import TRAIN
from training.tstr import Trial, run

SUBSET, SET = "real.npz", "set.npz"


@dataclass(frozen=True)
class Place:
    """Where a cell is made: its settings, the folders of what it needs, its own, and the data's."""

    settings: dict[str, Any]
    needs: list[Path]
    folder: Path
    data: Path

    def real(self) -> Path:
        """The real ECGs that it may learn from: a subset among its needs, or all."""
        found = [need / SUBSET for need in self.needs if (need / SUBSET).exists()]
        return found[0] if found else self.data / f"{self.settings['source']}.npz"


def make_subset(place: Place) -> None:
    """A share of the training records; folds 9 and 10 stay whole."""
    s = place.settings
    part = load(place.data / f"{s['source']}.npz")
    save(subset(part, s["fraction"], s["seed"]), place.folder / SUBSET)


def make_generator(place: Place) -> None:
    """A generator trained on the cell's real ECGs, by the project's own commands."""
    s = place.settings
    data = place.folder / "data"
    data.mkdir(exist_ok=True)
    if not (link := data / f"{s['source']}.npz").exists():
        link.symlink_to(place.real().resolve())
    for verb, more in s["commands"]:
        told = [word.format(data=data, folder=place.folder) for word in more]
        subprocess.run([sys.executable, "-m", f"training.{verb}", *told], check=True)


def make_set(place: Place) -> None:
    """Generated ECGs with the labels of real training records: `times` as many as there are, or `n`
    for each of the `statements`, of records that have it."""
    s = place.settings
    part = whole_segments(load(place.real())).folds(TRAIN)
    rng, label = np.random.default_rng(s["seed"]), part.label[part.record]
    if codes := s.get("statements"):
        having = [np.flatnonzero(label[:, 1 + CODES.index(code)] == 1) for code in codes]
        rows = np.concatenate([np.resize(rng.permutation(has), s["n"]) for has in having])
    else:
        every = rng.permutation(len(label))
        rows = np.resize(every, round(s["times"] * len(every)))
    wanted = first(part, rows)
    sig = signals(place, wanted)
    save(fidelity.with_signals(wanted, sig, "generated"), place.folder / SET)


def signals(place: Place, wanted: Shard) -> np.ndarray:
    """float32 mV [segment, 8, n_samples], by the stored generator or the one that is needed."""
    s = place.settings
    if stored := s.get("stored"):
        generator = load_generator(Path(stored), "cpu")
        labels = [labels_of(wanted, i, generator.card.statements) for i in range(len(wanted.sig))]
        d = generator.card.diffusion.model_copy(update=s.get("sampler", {}))
        batches = generate_many(generator, labels, range(len(labels)), s["seed"], d, workers=1)
        return np.concatenate(list(batches))
    return make(s["generator"], place.needs[-1], place.real(), wanted, s["seed"])


def first(part: Shard, rows: np.ndarray) -> Shard:
    arrays = ("sig", "lead_mask", "n_valid", "record")
    return Shard(**{**vars(part), **{name: getattr(part, name)[rows] for name in arrays}})


def make_classifier(place: Place) -> None:
    """Trained on folds 1-8 of real and generated ECGs; its logits on the real folds 9 and 10."""
    s = place.settings
    sets = tuple(str(need / SET) for need in place.needs if (need / SET).exists())
    real = str(place.real())
    trial = Trial(
        name=place.folder.name,
        training=(*((real,) if s["real"] else ()), *sets),
        real=real,
        statements_of=str(place.data / f"{s['source']}.npz"),
        seed=s["seed"],
        steps=s["steps"],
        preset=s["preset"],
        network=s["network"],
        generated_share=s.get("generated_share"),
        pretrained=s.get("pretrained", 0.0),
    )
    run(trial, place.folder)


KINDS: dict[str, Callable[[Place], None]] = {
    "subset": make_subset,
    "generator": make_generator,
    "set": make_set,
    "classifier": make_classifier,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.experiment.kinds")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    told = json.loads((args.folder / CELL).read_text())
    torch.set_num_threads(1)
    needs = [args.folder.parent / name for name in told["needs"]]
    KINDS[told["kind"]](Place(told["settings"], needs, args.folder, args.data))
    (args.folder / DONE).write_text("{}")


if __name__ == "__main__":
    main()
