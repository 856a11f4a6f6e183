"""The questions of the experiment: each, the cells that answer it, and the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg.sampler import course
from ecg.store import load_generator
from training import forest
from training.experiment.cell import Cell, cell
from training.experiment.compare import Compared, Reader, compare, holm, reader
from training.generators import METHODS
from training.serving_cost import measure_models
from training.shards import CODES, load
from training.subsets import subset
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE, REPORT, TRAIN
from training.tstr import untrained

REAL = "real"
ROUNDS = 15  # of each network's turns, where its cost is measured
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
    """Classifiers to compare: all at one seed, then the best on fold 9, and the network of the
    other studies, at every seed; `screened` are not taken further. `steps`, by network, of those
    for which the others' number would take hours."""

    names: tuple[str, ...] = ()
    finalists: int = 3
    screened: tuple[str, ...] = ()
    steps: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneratorsConfig:
    """Generators to compare, each trained on all training records; `stored` is the one that is
    served. `beside`: those whose ECGs are also tried beside the real ones. `overrides` of a preset,
    by generator."""

    names: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    preset: str = "cpu"
    overrides: dict[str, list] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentationConfig:
    """Shares of the training records; generated ECGs for each real one; shares of each batch that
    is generated; `pretrained`: the share of steps on generated ECGs alone that come first. `own`:
    shares at which a generator that learned from them alone stands beside the stored one. No arm
    has more than `most` generated ECGs."""

    fractions: tuple[float, ...] = ()
    times: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = ()
    pretrained: tuple[float, ...] = ()
    own: tuple[float, ...] = ()
    most: int = 10000


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
class CallsConfig:
    """Samplers of few network calls: a stored flow map's in so many `steps`, and the stored
    generator's own, `plain`, in fewer steps than its default."""

    flow_map: str = ""
    steps: tuple[int, ...] = ()
    plain: tuple[int, ...] = ()


@dataclass(frozen=True)
class FeaturesConfig:
    """What a denoiser has learned, as a classifier's: runs of the `autoencoder` and the `denoiser`,
    the `layer` and the noise level that `training.probe` found, shares of the training records, and
    the preset and steps of those whose U-Net learns too."""

    autoencoder: str = "runs/autoencoder"
    denoiser: str = "runs/denoiser"
    layer: str = "middle"
    sigma: float = 0.2
    fractions: tuple[float, ...] = ()
    preset: str = "tuned"
    steps: int = 300


@dataclass(frozen=True)
class ExperimentConfig:
    training: TrainingConfig = field(default_factory=TrainingConfig)
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    generators: GeneratorsConfig = field(default_factory=GeneratorsConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    rare: RareConfig = field(default_factory=RareConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    calls: CallsConfig = field(default_factory=CallsConfig)


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

    def generated_with(self, codes: Sequence[str], seed: int, n: int) -> Cell:
        """n ECGs of the stored generator for each of the statements."""
        return self._set("stored", seed, 1.0, statements=list(codes), n=n)

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

    def in_steps(self, stored: str, seed: int, num_steps: int) -> Cell:
        """As many as the real ones, by a stored generator's sampler in so many steps."""
        d = load_generator(Path(stored), "cpu").card.diffusion
        other = {} if num_steps == d.num_steps else {"sampler": {"num_steps": num_steps}}
        told = {"source": self.config.training.source, "fraction": 1.0, "times": 1.0}
        return self._of_the_store(stored, seed=1000 + seed, **told, **other)

    def _of_the_store(self, stored: str, **told: Any) -> Cell:
        sha256 = load_generator(Path(stored), "cpu").card.sha256
        where = str(Path(stored).resolve())
        return cell("set", generator="ldm", stored=where, sha256=sha256, **told)

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


def networks(bench: Bench) -> dict[str, Any]:
    """Classifiers on real ECGs: all at the first seed, read on fold 9; the finalists at every seed,
    on real and on real + generated ECGs, read on fold 10."""
    c, seeds = bench.config.networks, bench.config.training.seeds
    steps = {name: c.steps.get(name, bench.config.training.steps) for name in c.names}

    def trained(name: str, seed: int, *sets: Cell) -> Cell:
        return bench.classifier(seed, *sets, network=name, steps=steps[name])

    screen = {name: [trained(name, seeds[0])] for name in c.names}
    screened = bench.compared(screen, CHOOSE[0], c.names[0])
    scores = {
        name: np.mean([f["value"] for f in one["figures"].values()])
        for name, one in screened["arms"].items()
    }
    further = [name for name in c.names if name not in c.screened]
    finalists = sorted(further, key=lambda name: -scores[name])[: c.finalists]
    if bench.config.training.network in further:
        finalists = list(dict.fromkeys([*finalists, bench.config.training.network]))
    arms: dict[str, list[Cell]] = {}
    for name in finalists:
        arms[f"{name}, real"] = [trained(name, s) for s in seeds]
        arms[f"{name}, real + generated"] = [
            trained(name, s, bench.generated("stored", s)) for s in seeds
        ]
    return {
        "steps": steps,
        "screened": screened,
        "cost": served(bench, c.names),
        "finalists": finalists,
        "final": bench.compared(arms, reference=f"{finalists[0]}, real"),
    }


def served(bench: Bench, names: Sequence[str]) -> dict[str, Any]:
    """What each network costs to serve, on this machine at the moment; of a forest there is none to
    export."""
    t = bench.config.training
    n_outputs = 1 + len(bench.reader(CHOOSE[0]).statements)
    torch.manual_seed(0)
    models = {
        name: untrained(t.preset, name, {}, n_outputs) for name in names if name != forest.NAME
    }
    return {name: asdict(one) for name, one in measure_models(models, ROUNDS).items()}


def generators(bench: Bench) -> dict[str, Any]:
    """What a classifier learns from each generator's ECGs alone, and from some beside real ones."""
    c, t = bench.config.generators, bench.config.training
    arms: dict[str, list[Cell]] = {REAL: [bench.classifier(s) for s in t.seeds]}
    for name in c.names:
        sets = {s: bench.generated(name, s) for s in t.seeds}
        arms[f"{name} alone"] = [bench.classifier(s, sets[s], real=False) for s in t.seeds]
        if name in c.beside:
            arms[f"real + {name}"] = [bench.classifier(s, sets[s]) for s in t.seeds]
    return bench.compared(arms)


def augmentation(bench: Bench) -> dict[str, Any]:
    """For each share of the training records: real alone, generated alone, and mixtures.

    `generated` are the stored generator's, which learned from all training records: as for someone
    who has few and takes others' generator. `own` are of one that learned from this share alone.
    """
    c, t = bench.config.augmentation, bench.config.training
    found = {}
    for f in c.fractions:
        n = bench.n_training(f)
        times = [k for k in c.times if k * n <= c.most] or [min(c.times)]
        most = max(times)
        arms = {REAL: [bench.classifier(s, fraction=f) for s in t.seeds]}
        for origin, name in {"generated": "stored", "own": "ldm"}.items():
            if name == "ldm" and f not in c.own:
                continue

            def arm(
                k: float, f: float = f, name: str = name, most: float = most, **more: Any
            ) -> list[Cell]:
                sets = [bench.generated(name, s, f, k, most) for s in t.seeds]
                return [
                    bench.classifier(s, made, fraction=f, **more)
                    for s, made in zip(t.seeds, sets, strict=True)
                ]

            arms[f"{origin} alone"] = arm(1.0, real=False)
            arms |= {f"real + {k:g} x {origin}": arm(k) for k in times}
            arms |= {
                f"real + {origin}, {share:.0%} of a batch": arm(most, generated_share=share)
                for share in c.shares
            }
            arms |= {
                f"{origin} for {share:.0%} of the steps, then real": arm(
                    max(times), pretrained=share
                )
                for share in c.pretrained
            }
        found[f"{f:g}"] = bench.compared(arms)
    return found


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
    if not tested:
        raise SystemExit(
            f"rare: no statement with {c.fewest} to {c.most} training records has a test record: "
            "--set rare.most=…"
        )
    columns = {"mean": np.array([at[code] for code in tested])} | {
        code: np.array([at[code]]) for code in tested
    }
    columns |= {"macro": read.common, "atrial": np.array([0])}

    arms: dict[str, list[Cell]] = {REAL: [bench.classifier(s) for s in t.seeds]}
    arms["real + generated, rare ones"] = [
        bench.classifier(s, bench.generated_with(tested, s, c.n)) for s in t.seeds
    ]
    for share in c.shares:
        arms[f"real + generated, rare ones, {share:.0%} of a batch"] = [
            bench.classifier(s, bench.generated_with(tested, s, c.n), generated_share=share)
            for s in t.seeds
        ]
    for code in tested[: c.singly]:
        arms[f"real + generated {code}"] = [
            bench.classifier(s, bench.generated_with([code], s, c.n)) for s in t.seeds
        ]
    return {"n_training": {code: n[code] for code in tested},
            "n_test": {code: int((read.label[:, at[code]] == 1).sum()) for code in tested},
            **bench.compared(arms, columns=columns)}  # fmt: skip


def features(bench: Bench) -> dict[str, Any]:
    """For each share of the training records: the classifier, and ECG-LDM's U-Net with a head in
    its place, frozen, tuned, and from the start. The autoencoder is the same for all three; it and
    the denoiser have learned from all training records."""
    c, t = bench.config.features, bench.config.training
    shown = {"layer": c.layer, "sigma": c.sigma, "autoencoder": str(Path(c.autoencoder).resolve())}
    learned = {**shown, "denoiser": str(Path(c.denoiser).resolve())}
    weights = (Path(c.denoiser) / "best.pt").read_bytes()
    more = {"network": "unet", "learned": hashlib.sha256(weights).hexdigest()}
    longer = {**more, "preset": c.preset, "steps": c.steps}
    ways = {
        "U-Net, frozen": {**more, "settings": {**learned, "frozen": True}},
        "U-Net, tuned": {**longer, "settings": learned},
        "U-Net, from the start": {**longer, "settings": shown},
    }
    found = {}
    for f in c.fractions:
        arms = {REAL: [bench.classifier(s, fraction=f) for s in t.seeds]}
        arms |= {
            name: [bench.classifier(s, fraction=f, **way) for s in t.seeds]
            for name, way in ways.items()
        }
        found[f"{f:g}"] = bench.compared(arms)
    return found


def calls(bench: Bench) -> dict[str, Any]:
    """What a classifier learns from ECGs made in few network calls, beside those of the stored
    generator's default sampler."""
    c, t = bench.config.calls, bench.config.training
    card = load_generator(Path(t.stored), "cpu").card
    ways = {t.stored: (card.diffusion.num_steps, *c.plain), c.flow_map: c.steps}
    arms: dict[str, list[Cell]] = {}
    for stored, steps in ways.items():
        d = load_generator(Path(stored), "cpu").card.diffusion if steps else None
        for k in steps:
            n = course(d, k, d.guidance_scale).network_calls
            name = f"{n} calls, {'flow map' if d.flow_map else f'denoiser in {k} steps'}"
            arms[name] = [
                bench.classifier(s, bench.in_steps(stored, s, k), real=False) for s in t.seeds
            ]
    arms[REAL] = [bench.classifier(s) for s in t.seeds]
    return bench.compared(arms, reference=next(iter(arms)))


STUDIES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "networks": networks,
    "generators": generators,
    "augmentation": augmentation,
    "rare": rare,
    "features": features,
    "calls": calls,
}


def asked(config: ExperimentConfig) -> list[str]:
    """The studies that the preset names anything for."""
    there = {
        "networks": config.networks.names,
        "generators": config.generators.names,
        "augmentation": config.augmentation.fractions,
        "rare": config.rare.n,
        "features": config.features.fractions,
        "calls": config.calls.steps,
    }
    return [name for name, any_ in there.items() if any_]
