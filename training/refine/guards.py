"""What no step of a refinement may harm, measured before and after it on the labels of fold 9."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.judging.distances import fit_space, manifold
from training.judging.embeddings import stored_features
from training.metrics import bootstrap, common_columns
from training.promotion.generators import copies, fidelity
from training.refine.look import Look
from training.train_classifier import TRAIN, covered_statements
from training.tstr import mean_score, segment_labels

N_RESAMPLES = 500


@dataclass(frozen=True)
class Bounds:
    """By how much each may fall."""

    recall: float = 0.05
    coverage: float = 0.05
    tstr: float = 0.02
    fidelity: float = 0.02
    second_reward: float = 0.02


@dataclass(frozen=True)
class Guard:
    """`change` is after less before, with its paired 95% interval over patients; it holds where the
    change is no lower than -bound."""

    name: str
    before: float
    after: float
    change: float
    interval: tuple[float, float]
    bound: float

    @property
    def holds(self) -> bool:
        return self.change >= -self.bound

    def described(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def guards(
    before: Look, after: Look, bounds: Bounds, second: Callable[[Look], np.ndarray] | None
) -> tuple[list[Guard], list[str]]:
    """Each guard; what speaks against the step, in words, where one does not hold or where ECGs
    come as near to training ECGs as copies do. second: the second reward of a look's held ECGs."""
    found = [*_manifold(before, after, bounds), *_tstr(before, after, bounds.tstr)]
    found += _fidelity(before, after, bounds.fidelity)
    if second is not None:
        values = second(before), second(after)
        found.append(_paired("second reward", *values, before.bench.held.patient,
                             bounds.second_reward))  # fmt: skip
    reasons = [
        f"{g.name} fell from {g.before:.3f} to {g.after:.3f}, by more than {g.bound:g}"
        for g in found
        if not g.holds
    ]
    bench = before.bench
    near = copies(after.held.sig.astype(np.float32), bench.held, bench.training)
    return found, reasons + near


def _paired(
    name: str, before: np.ndarray, after: np.ndarray, patient: np.ndarray, bound: float
) -> Guard:
    """Of means over ECGs."""
    change = after - before
    interval = bootstrap(lambda rows: float(change[rows].mean()), patient, N_RESAMPLES)
    return Guard(
        name, float(before.mean()), float(after.mean()), float(change.mean()), interval, bound
    )


def _manifold(before: Look, after: Look, bounds: Bounds) -> list[Guard]:
    """Recall and coverage of fold 9's real ECGs, in what the stored classifier looks at."""
    bench = before.bench
    features = stored_features(bench.classifier_folder)
    space = fit_space(features(bench.training.sig), len(bench.held.sig))
    real = space(features(bench.held.sig))
    each = [manifold(real, space(features(look.held.sig))) for look in (before, after)]
    return [
        _paired(name, *(one[name] for one in each), bench.held.patient, getattr(bounds, name))
        for name in ("recall", "coverage")
    ]


def _tstr(before: Look, after: Look, bound: float) -> list[Guard]:
    """AUROCs on real ECGs of classifiers that learned from each one's."""
    real = before.bench.real
    part = real.folds((9,))
    statements = covered_statements([real.folds(TRAIN)])
    label, patient = segment_labels(part, statements), part.patient[part.record]
    common = 1 + common_columns(label[:, 1:])
    names = ("atrial", "macro") if len(common) else ("atrial",)
    found = []
    for name in names:

        def score(look: Look, rows: np.ndarray, name: str = name) -> float:
            return mean_score(name, label[rows], (x[rows] for x in look.logits), common)

        def change(rows: np.ndarray, score: Callable = score) -> float:
            return score(after, rows) - score(before, rows)

        every = np.arange(len(label))
        values = score(before, every), score(after, every)
        interval = bootstrap(change, patient, N_RESAMPLES)
        found.append(Guard(f"TSTR, {name}", *values, values[1] - values[0], interval, bound))
    return found


def _fidelity(before: Look, after: Look, bound: float) -> list[Guard]:
    """AUROCs of the stored classifier against the labels asked for."""
    bench = before.bench
    sig = [look.held.sig.astype(np.float32) for look in (after, before)]
    return [
        Guard(f"labels, {one.name}", one.served, one.candidate, one.gain, one.interval, bound)
        for one in fidelity(bench.classifier, bench.held, sig)
    ]
