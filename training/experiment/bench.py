"""What the studies work with: the cells that they ask for, and how arms of cells are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ecg.store import load_generator
from training.experiment.cell import Cell, cell
from training.experiment.compare import Compared, Reader, compare, holm, reader
from training.experiment.config import ExperimentConfig
from training.generators import METHODS, ldm
from training.shards import load
from training.subsets import subset
from training.train_autoencoder import whole_segments
from training.train_classifier import REPORT, TRAIN

REAL = "real"
Arms = Mapping[str, Sequence[Cell]]  # a cell a seed


@dataclass(frozen=True)
class Bench:
    """`make` makes cells, and returns when they are made; `folder` is where they are kept."""

    config: ExperimentConfig
    data: Path
    folder: Path
    make: Callable[[list[Cell]], None]

    def generated(
        self,
        name: str,
        seed: int,
        fraction: float = 1.0,
        times: float = 1.0,
        of: float | None = None,
    ) -> Cell:
        """A set by the generator of that name, trained on a share of the training records and with
        their labels, `times` as many as they are; the first of a set of `of` times as many, where
        that is more. `stored` has learned from all of them."""
        if of is None or of <= times:
            return self._set(name, seed, fraction, times=times)
        whole = self._set(name, seed, fraction, times=of)
        return cell("part", whole, n=round(times * self.n_training(fraction)))

    def generated_with(self, codes: Sequence[str], seed: int, n: int, name: str = "stored") -> Cell:
        """n ECGs of the generator for each of the statements."""
        return self._set(name, seed, 1.0, statements=list(codes), n=n)

    def _set(self, name: str, seed: int, fraction: float, **what: Any) -> Cell:
        t, g = self.config.training, self.config.generators
        told = {"source": t.source, "fraction": fraction, "seed": 1000 + seed, **what}
        if name == "stored":
            return self._of_the_store(t.stored, **told)
        trained = cell(
            "generator",
            source=t.source,
            fraction=fraction,
            generator=name,
            preset=g.preset if METHODS[name].presets else "",
            overrides=g.overrides.get(name, []),
        )
        return cell("set", trained, generator=name, **told)

    def sampled(self, stored: str, seed: int, sampler: Mapping[str, Any]) -> Cell:
        """As many as the real ones, by a stored generator; `sampler` is what differs from its
        card's."""
        told = {"source": self.config.training.source, "fraction": 1.0, "times": 1.0}
        return self._of_the_store(stored, sampler, seed=1000 + seed, **told)

    def _of_the_store(
        self, stored: str, sampler: Mapping[str, Any] = MappingProxyType({}), **told: Any
    ) -> Cell:
        """Told whole, as the card may come to say another sampler of the same weights."""
        card = load_generator(Path(stored), "cpu").card
        whole = card.diffusion.model_copy(update=dict(sampler))
        said = whole.model_dump(mode="json", include=set(ldm.SAMPLER))
        return cell(
            "set",
            generator="ldm",
            stored=str(Path(stored).resolve()),
            sha256=card.sha256,
            sampler=said,
            **told,
        )

    def n_training(self, fraction: float) -> int:
        """Whole training segments of that share."""
        part = whole_segments(load(self.data / f"{self.config.training.source}.npz"))
        return len(subset(part, fraction, 0).folds(TRAIN).sig)

    def classifier(
        self, seed: int, *sets: Cell, real: bool = True, fraction: float = 1.0, **more: Any
    ) -> Cell:
        t = self.config.training
        told = {"network": t.network, "preset": t.preset, "steps": t.steps, "source": t.source}
        return cell(
            "classifier", *sets, seed=seed, real=real, fraction=fraction, **{**told, **more}
        )

    def reader(self, fold: int) -> Reader:
        return reader(self.data, self.config.training.source, fold)

    def compared(
        self,
        arms: Arms,
        fold: int = REPORT[0],
        reference: str = REAL,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """The arms' figures as JSON, the cells made first where they are not."""
        self.make([one for cells in arms.values() for one in cells])
        folders = {name: [self.folder / one.name for one in arms[name]] for name in arms}
        found = compare(self.reader(fold), folders, reference, columns)
        return {
            "fold": fold,
            "reference": reference,
            "arms": {name: asdict(one) for name, one in corrected(found, reference).items()},
            "cells": {name: [one.name for one in cells] for name, cells in arms.items()},
        }


def corrected(found: dict[str, Compared], reference: str) -> dict[str, Compared]:
    """p of each figure corrected for as many arms as stand beside the reference."""
    others = [name for name in found if name != reference]
    figures = list(found[reference].figures)
    p = {k: holm({name: found[name].p[k] for name in others}) for k in figures}
    return {
        name: Compared(
            one.figures, one.above, {k: p[k][name] for k in figures} if name in others else {}
        )
        for name, one in found.items()
    }
