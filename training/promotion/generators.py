"""Two generators on the labels of fold 9: whether their ECGs are what was asked for, and no copies.

What classifiers learn from each (TSTR) takes hours, and is read from evaluations where given: on
fold 9 it decides, on fold 10 it is only shown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg.generation import generate
from ecg.store import Classifier, Generator
from training.judging.fidelity import probabilities
from training.judging.novelty import nearest
from training.ldm.latents import labels_of
from training.metrics import auroc, bootstrap, common_columns, macro_auroc
from training.promotion.verdict import Cost, Figure
from training.shards import CODES, Shard, load
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE, TRAIN

SEED, BATCH = 9, 16
N_RESAMPLES = 500
CHANCE = 0.05  # that a generator which copies nothing is held to copy


def compare_generators(
    candidate: Generator,
    served: Generator | None,
    classifier: Classifier,
    path: Path,
    evaluations: Sequence[Path] | None = None,
) -> tuple[list[Figure], Cost, list[str]]:
    """As `compare_classifiers`; path: the shard that they learned from; evaluations: the
    candidate's and the served one's. Errors: SystemExit."""
    if not path.exists():
        raise SystemExit(f"no shard at {path}: run python -m training.prepare first")
    real = whole_segments(load(path))
    part, training = real.folds(CHOOSE), real.folds(TRAIN)
    if not len(part.sig) or not len(training.sig):
        raise SystemExit(f"{path}: folds 1-8 and 9 must both hold whole segments")
    models = [candidate, *([served] if served else [])]
    made, seconds = generated_like(models, part)
    figures = fidelity(classifier, part, made)
    if evaluations and served:
        figures += tstr(*(read(p, m) for p, m in zip(evaluations, models, strict=True)))
    ms = [1000 * float(np.median(s)) for s in seconds]
    unit = "ms an ECG, one thread"
    cost = Cost(unit, ms[0])
    if served:
        cost = Cost(unit, *ms, ratio=float(np.median(np.divide(*seconds))))
    lost = sorted(set(served.card.statements) - set(candidate.card.statements)) if served else []
    reasons = [f"it can no longer be asked for {', '.join(lost)}"] if lost else []
    return figures, cost, reasons + copies(made[0], part, training)


def generated_like(
    models: Sequence[Generator], part: Shard
) -> tuple[list[np.ndarray], list[list[float]]]:
    """ECGs of each model with the labels of the part's segments, mV [n, 8, n_samples], and the
    seconds an ECG of each batch; the models take turns."""
    made: list[list[np.ndarray]] = [[] for _ in models]
    seconds: list[list[float]] = [[] for _ in models]
    for start in range(0, len(part.sig), BATCH):
        rows = range(start, min(start + BATCH, len(part.sig)))
        for model, sigs, taken in zip(models, made, seconds, strict=True):
            labels = [labels_of(part, i, model.card.statements) for i in rows]
            started = time.perf_counter()
            sigs.append(generate(model, labels, rows, SEED))
            taken.append((time.perf_counter() - started) / len(rows))
    return [np.concatenate(sigs) for sigs in made], seconds


def fidelity(classifier: Classifier, part: Shard, made: Sequence[np.ndarray]) -> list[Figure]:
    """AUROCs of the classifier against what was asked for."""
    statements = classifier.card.statements
    outputs = [0, *(1 + CODES.index(code) for code in statements)]
    label, patient = part.label[part.record][:, outputs], part.patient[part.record]
    p, *q = (probabilities(classifier, sig) for sig in made)
    common = 1 + common_columns(label[:, 1:])
    of = {"atrial substrate": lambda y, x: auroc(y[:, 0], x[:, 0])}
    if len(common):
        of["macro"] = lambda y, x: macro_auroc(y, x, common)
    found = []
    for name, figure in of.items():

        def difference(rows: np.ndarray, figure=figure) -> float:
            before = figure(label[rows], q[0][rows]) if q else 0.0
            return figure(label[rows], p[rows]) - before

        every = np.arange(len(label))
        value, interval = figure(label, p), bootstrap(difference, patient, N_RESAMPLES)
        compared = (figure(label, q[0]), difference(every)) if q else ()
        given = (f"{name} AUROC by the classifier", "AUROC", "as asked", len(label), value)
        found.append(Figure(*given, *compared, interval=interval))
    return found


def copies(sig: np.ndarray, part: Shard, training: Shard) -> list[str]:
    """Whether ECGs come nearer to training ECGs than any of n strangers' does, and more often than
    further strangers' would: with probability CHANCE, a share of 1 - CHANCE^(1/n) of these does."""
    fs = part.preparation.fs
    strangers, ours = (nearest(x, training.sig, training.lead_mask, fs) for x in (part.sig, sig))
    bound = float(strangers.distance.min())
    share = float((ours.distance < bound).mean())
    most = 1 - CHANCE ** (1 / len(part.sig))
    if share <= most:
        return []
    return [
        f"{share:.1%} of its ECGs are nearer to a training ECG than {bound:.4f}, as near as no "
        f"real one of fold 9 comes; by chance {most:.1%} may be"
    ]


def read(path: Path, model: Generator) -> dict[str, Any]:
    """An evaluation of this model. Errors: SystemExit."""
    try:
        found = json.loads(path.read_text())
        of = found["generator"]["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(
            f"{path} is no evaluation of training.evaluate_generator: {error}"
        ) from None
    if of != model.card.sha256:
        raise SystemExit(f"{path} is of other weights than {model.card.version}: evaluate it first")
    return found


def tstr(candidate: dict[str, Any], served: dict[str, Any]) -> list[Figure]:
    """What classifiers learn from each at its default settings: on fold 9 of few ECGs, without an
    interval; on fold 10 of as many as there are real ones, whose intervals are not paired."""
    figures = []
    ours, theirs = (_at_default(e) for e in (candidate, served))
    for name in sorted(set(ours) & set(theirs)):
        gain = ours[name] - theirs[name]
        given = (f"TSTR {name} AUROC", "TSTR", "few ECGs, fold 9", 0)
        figures.append(Figure(*given, ours[name], theirs[name], gain))
    for name in ("atrial", "macro"):
        if name in candidate.get("tstr", {}) and name in served.get("tstr", {}):
            new, old = (e["tstr"][name]["generated"] for e in (candidate, served))
            widest = (
                new["interval"][0] - old["interval"][1],
                new["interval"][1] - old["interval"][0],
            )
            figures.append(
                Figure(
                    f"TSTR {name} AUROC", "TSTR", "fold 10", candidate["tstr"]["n_test"],
                    new["value"], old["value"], new["value"] - old["value"], widest, decides=False,
                )
            )  # fmt: skip
    return figures


def _at_default(evaluation: dict[str, Any]) -> dict[str, float]:
    """AUROCs on fold 9 at the card's settings, where the evaluation compared settings."""
    default = evaluation.get("diffusion", {})
    for row in evaluation.get("settings", ()):
        if all(row.get(k) == default.get(k, -1) for k in ("num_steps", "guidance_scale")):
            return row["fold_9"]
    return {}
