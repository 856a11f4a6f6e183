"""The questions of the experiment, each as the cells that answer it and the table of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ecg.store import load_generator
from training.experiment.cell import Cell, cell
from training.experiment.compare import Compared, Reader, compare, holm, reader
from training.shards import CODES, load
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE, REPORT, TRAIN

REAL = "real"
Arms = Mapping[str, Sequence[Cell]]  # a cell a seed


@dataclass(frozen=True)
class TrainingConfig:
    """What all studies share: the shard, the classifier that generated ECGs are to help and its
    preset, steps and seeds, and the stored generator."""

    source: str = "ptb-xl"
    network: str = "prednet"
    preset: str = "cpu"
    steps: int = 600
    seeds: tuple[int, ...] = (0, 1, 2)
    stored: str = "models_store/ldm"


@dataclass(frozen=True)
class NetworksConfig:
    """Classifiers to compare: all at one seed, then the best on fold 9 at every seed."""

    names: tuple[str, ...] = ()
    finalists: int = 3


@dataclass(frozen=True)
class GeneratorsConfig:
    """Generators to compare, each trained on all training records by `commands`, if any."""

    names: tuple[str, ...] = ()
    commands: dict[str, list] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentationConfig:
    """Shares of the training records; generated ECGs for each real one; shares of each batch that
    is generated; `pretrained`: the share of steps on generated ECGs alone that come first."""

    fractions: tuple[float, ...] = ()
    times: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = ()
    pretrained: tuple[float, ...] = ()
    own: dict[str, list] = field(default_factory=dict)  # commands of a generator on the share alone


@dataclass(frozen=True)
class RareConfig:
    """Statements with so few training records, `n` generated ECGs of each; `singly` of them are
    also tried one at a time."""

    fewest: int = 15
    most: int = 50
    n: int = 150
    singly: int = 0
    shares: tuple[float, ...] = (0.25,)


@dataclass(frozen=True)
class ExperimentConfig:
    training: TrainingConfig = field(default_factory=TrainingConfig)
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    generators: GeneratorsConfig = field(default_factory=GeneratorsConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    rare: RareConfig = field(default_factory=RareConfig)


@dataclass(frozen=True)
class Bench:
    """`make` makes cells, and returns when they are made; `folder` is where they are kept."""

    config: ExperimentConfig
    data: Path
    folder: Path
    make: Callable[[list[Cell]], None]

    def subset(self, fraction: float) -> tuple[Cell, ...]:
        """What a cell needs to see so much of the training records; nothing for all of them."""
        if fraction == 1:
            return ()
        source = self.config.training.source
        return (cell("subset", source=source, fraction=fraction, seed=0),)

    def stored_set(
        self, seed: int, times: float, needs: tuple[Cell, ...] = (), **more: Any
    ) -> Cell:
        """As many ECGs of the stored generator as `times` the real ones, with their labels."""
        t = self.config.training
        sha256 = load_generator(Path(t.stored), "cpu").card.sha256
        told = {"stored": str(Path(t.stored).resolve()), "sha256": sha256, "times": times, **more}
        return cell("set", *needs, source=t.source, seed=1000 + seed, **told)

    def classifier(self, seed: int, *needs: Cell, real: bool = True, **more: Any) -> Cell:
        t = self.config.training
        told = {"network": t.network, "preset": t.preset, "steps": t.steps, **more}
        return cell("classifier", *needs, source=t.source, seed=seed, real=real, **told)

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


def networks(bench: Bench) -> dict[str, Any]:
    """Classifiers on real ECGs: all at the first seed, read on fold 9; the finalists at every seed,
    on real and on real + generated ECGs, read on fold 10."""
    c, seeds = bench.config.networks, bench.config.training.seeds
    screen = {name: [bench.classifier(seeds[0], network=name)] for name in c.names}
    screened = bench.compared(screen, CHOOSE[0], c.names[0])
    scores = {
        name: np.mean([f["value"] for f in one["figures"].values()])
        for name, one in screened["arms"].items()
    }
    finalists = sorted(c.names, key=lambda name: -scores[name])[: c.finalists]
    arms: dict[str, list[Cell]] = {}
    for name in finalists:
        arms[f"{name}, real"] = [bench.classifier(s, network=name) for s in seeds]
        arms[f"{name}, real + generated"] = [
            bench.classifier(s, bench.stored_set(s, 1.0), network=name) for s in seeds
        ]
    return {
        "screened": screened,
        "finalists": finalists,
        "final": bench.compared(arms, reference=f"{finalists[0]}, real"),
    }


def generators(bench: Bench) -> dict[str, Any]:
    """What a classifier learns from each generator's ECGs alone, and beside the real ones."""
    c, t = bench.config.generators, bench.config.training
    arms: dict[str, list[Cell]] = {REAL: [bench.classifier(s) for s in t.seeds]}
    for name in c.names:
        sets = {s: generated(bench, name, s) for s in t.seeds}
        arms[f"{name} alone"] = [bench.classifier(s, sets[s], real=False) for s in t.seeds]
        arms[f"real + {name}"] = [bench.classifier(s, sets[s]) for s in t.seeds]
    return bench.compared(arms)


def generated(bench: Bench, name: str, seed: int, needs: tuple[Cell, ...] = ()) -> Cell:
    """A set of as many ECGs as there are real ones, by the generator of that name."""
    t, commands = bench.config.training, bench.config.generators.commands.get(name)
    if name == "stored":
        return bench.stored_set(seed, 1.0, needs)
    trained = (
        (cell("generator", *needs, source=t.source, name=name, commands=commands),)
        if commands
        else ()
    )
    told = {"generator": name, "times": 1.0, "source": t.source, "seed": 1000 + seed}
    return cell("set", *needs, *trained, **told)


def augmentation(bench: Bench) -> dict[str, Any]:
    """For each share of the training records: real alone, generated alone, and mixtures."""
    c, t = bench.config.augmentation, bench.config.training
    found = {}
    for fraction in c.fractions:
        needs = bench.subset(fraction)
        arms: dict[str, list[Cell]] = {REAL: [bench.classifier(s, *needs) for s in t.seeds]}

        def one(s: int, made: Cell, needs: tuple[Cell, ...] = needs, **more: Any) -> Cell:
            return bench.classifier(s, *needs, made, **more)

        for origin, made in origins(bench, fraction).items():
            arms[f"{origin} alone"] = [one(s, made(s, 1.0), real=False) for s in t.seeds]
            for k in c.times:
                arms[f"real + {k:g} x {origin}"] = [one(s, made(s, k)) for s in t.seeds]
            for share in c.shares:
                arms[f"real + {origin}, {share:.0%} of a batch"] = [
                    one(s, made(s, max(c.times)), generated_share=share) for s in t.seeds
                ]
            for share in c.pretrained:
                arms[f"{origin} for {share:.0%} of the steps, then real"] = [
                    one(s, made(s, max(c.times)), pretrained=share) for s in t.seeds
                ]
        found[f"{fraction:g}"] = bench.compared(arms)
    return found


def origins(bench: Bench, fraction: float) -> dict[str, Callable[[int, float], Cell]]:
    """Where generated ECGs come from: the stored generator, which learned from all the training
    records and may be had by who has few; and one that learned from this share alone."""
    c, t, needs = bench.config.augmentation, bench.config.training, bench.subset(fraction)

    def stored(seed: int, times: float) -> Cell:
        return bench.stored_set(seed, times, needs)

    def own(seed: int, times: float) -> Cell:
        trained = cell("generator", *needs, source=t.source, name="ldm", commands=c.own["commands"])
        told = {"generator": "ldm", "times": times, "source": t.source, "seed": 1000 + seed}
        return cell("set", *needs, trained, **told)

    found: dict[str, Callable[[int, float], Cell]] = {"generated": stored}
    return {**found, "own generated": own} if c.own and fraction < 1 else found


def rare(bench: Bench) -> dict[str, Any]:
    """Statements with few training records: generated ECGs of all of them added, and of each by
    itself; AUROC of each statement before and after."""
    c, t = bench.config.rare, bench.config.training
    part = whole_segments(load(bench.data / f"{t.source}.npz")).folds(TRAIN)
    n = dict(zip(CODES, (part.label[:, 1:] == 1).sum(axis=0).tolist(), strict=True))
    read = bench.reader(REPORT[0])
    at = {code: 1 + i for i, code in enumerate(read.statements)}
    found = [code for code in at if c.fewest <= n[code] <= c.most]
    tested = [code for code in found if (read.label[:, at[code]] == 1).any()]
    columns = {"mean": np.array([at[code] for code in tested])} | {
        code: np.array([at[code]]) for code in tested
    }
    columns |= {"macro": read.common, "atrial": np.array([0])}

    def more(s: int, codes: Sequence[str]) -> Cell:
        return bench.stored_set(s, 0.0, statements=list(codes), n=c.n)

    arms: dict[str, list[Cell]] = {REAL: [bench.classifier(s) for s in t.seeds]}
    arms["real + generated, rare ones"] = [bench.classifier(s, more(s, tested)) for s in t.seeds]
    for share in c.shares:
        arms[f"real + generated, rare ones, {share:.0%} of a batch"] = [
            bench.classifier(s, more(s, tested), generated_share=share) for s in t.seeds
        ]
    for code in tested[: c.singly]:
        arms[f"real + generated {code}"] = [bench.classifier(s, more(s, [code])) for s in t.seeds]
    return {"n_training": {code: n[code] for code in tested},
            "n_test": {code: int((read.label[:, at[code]] == 1).sum()) for code in tested},
            **bench.compared(arms, columns=columns)}  # fmt: skip


STUDIES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "networks": networks,
    "generators": generators,
    "augmentation": augmentation,
    "rare": rare,
}


def asked(config: ExperimentConfig) -> list[str]:
    """The studies that the preset names anything for."""
    there = {
        "networks": config.networks.names,
        "generators": config.generators.names,
        "augmentation": config.augmentation.fractions,
        "rare": config.rare.n,
    }
    return [name for name, any_ in there.items() if any_]


def plain(value: object) -> str:
    return json.dumps(value, indent=1)
