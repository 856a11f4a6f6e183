"""Arms of a study beside each other: AUROCs on real ECGs, paired by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.metrics import auroc, common_columns, resamples
from training.shards import Shard, load
from training.train_autoencoder import whole_segments
from training.train_classifier import TRAIN, covered_statements
from training.tstr import segment_labels

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Reader:
    """The real ECGs of one fold that arms are read on. label [segment, 1 + statements]."""

    statements: tuple[str, ...]
    fold: int
    label: np.ndarray
    patient: np.ndarray

    @property
    def common(self) -> np.ndarray:
        """The columns that macro figures are means over."""
        return 1 + common_columns(self.label[:, 1:])

    def logits(self, folder: Path) -> np.ndarray:
        """What the classifier kept there makes of these ECGs."""
        return np.load(folder / f"logits-{self.fold}.npy")


def reader(data: Path, source: str, fold: int) -> Reader:
    real = whole_segments(load(data / f"{source}.npz"))
    statements = covered_statements([real.folds(TRAIN)])
    part: Shard = real.folds((fold,))
    return Reader(statements, fold, segment_labels(part, statements), part.patient[part.record])


@dataclass(frozen=True)
class Figure:
    """A figure, and where 95% of its resamples lie."""

    value: float
    interval: tuple[float, float]
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Compared:
    """An arm's figures, and how far they lie above the reference's in the same resamples; p is of
    no difference, by the resamples, two-sided."""

    figures: dict[str, Figure]
    above: dict[str, Figure]
    p: dict[str, float]


def compare(
    read: Reader,
    arms: Mapping[str, Sequence[Path]],
    reference: str,
    columns: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Compared]:
    """Each arm's AUROCs, `atrial` and `macro` where no other `columns` are named, beside those of
    the arm `reference`. All arms see the same resamples of patients."""
    columns = columns or {"atrial": np.array([0]), "macro": read.common}
    logits = {name: [read.logits(folder) for folder in folders] for name, folders in arms.items()}
    whole = np.arange(len(read.label))
    drawn = [whole, *resamples(read.patient, N_RESAMPLES)]

    def figures_of(scores: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
        label, every = read.label[rows], [score[rows] for score in scores]
        means = (
            [np.nanmean([auroc(label[:, j], score[:, j]) for j in chosen]) for score in every]
            for chosen in columns.values()
        )
        return np.array([np.mean(one) for one in means])

    every = {
        name: np.stack([figures_of(scores, rows) for rows in drawn])
        for name, scores in logits.items()
    }
    found = {}
    for name, figures in every.items():
        difference = figures - every[reference]
        seeds = np.stack([figures_of([score], whole) for score in logits[name]])
        found[name] = Compared(
            figures={k: _figure(figures[:, i], seeds[:, i]) for i, k in enumerate(columns)},
            above={k: _figure(difference[:, i]) for i, k in enumerate(columns)},
            p={k: _p(difference[1:, i]) for i, k in enumerate(columns)},
        )
    return found


def _figure(values: np.ndarray, seeds: np.ndarray | None = None) -> Figure:
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    each = () if seeds is None else tuple(float(s) for s in seeds)
    return Figure(float(values[0]), (float(low), float(high)), each)


def _p(differences: np.ndarray) -> float:
    n = len(differences)
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (n + 1))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Corrected for as many comparisons (Holm 1979)."""
    corrected, highest = {}, 0.0
    for i, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p) - i) * value))
        corrected[name] = highest
    return corrected
