"""The questions of the experiment: each, the cells that answer it, and the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg.sampler import course
from ecg.store import CARD, load_generator
from training import forest
from training.experiment.bench import REAL, Bench
from training.experiment.cell import Cell
from training.experiment.config import ExperimentConfig
from training.serving_cost import measure_models
from training.shards import CODES, load
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE, REPORT, TRAIN
from training.tstr import untrained

ROUNDS = 15  # of each network's turns, where its cost is measured


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
    for name in c.controls:
        arms[f"real + {name}, rare ones"] = [
            bench.classifier(s, bench.generated_with(tested, s, c.n, name)) for s in t.seeds
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
    ways: list[tuple[str, str, dict[str, Any]]] = [(t.stored, "the default", {})]
    for sampler in c.samplers:
        ways.append((t.stored, ", ".join(f"{k} {v}" for k, v in sampler.items()), sampler))
    ways += [(c.flow_map, "flow map", {"num_steps": k}) for k in c.steps]
    arms: dict[str, list[Cell]] = {}
    for stored, said, sampler in ways:
        card = load_generator(Path(stored), "cpu").card
        d = card.diffusion.model_copy(update=sampler)
        n = course(d, d.num_steps, d.guidance_scale).network_calls
        arms[f"{n} {'call' if n == 1 else 'calls'}: {said}"] = [
            bench.classifier(s, bench.sampled(stored, s, sampler), real=False) for s in t.seeds
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
        "calls": (*config.calls.samplers, *config.calls.steps),
    }
    return [name for name, any_ in there.items() if any_]


def missing(config: ExperimentConfig, study: str) -> str | None:
    """What a study needs that is not there, and how it is made."""
    f, c = config.features, config.calls
    if study == "features":
        for run in (f.autoencoder, f.denoiser):
            if not (Path(run) / "best.pt").exists():
                return f"{run} is not there: python -m training.import_generator makes it"
    if study == "calls" and c.steps and not (Path(c.flow_map) / CARD).exists():
        return f"calls.flow_map {c.flow_map!r} is no stored flow map (see training.train_flow_map)"
    return None
