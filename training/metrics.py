"""Figures of merit over records, with bootstrap intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import rankdata

MIN_POSITIVES = 5


def auroc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; NaN where a class is missing. Label -1 is left
    out."""
    known = label >= 0
    label, score = label[known], score[known]
    n_positive = int(label.sum())
    n_negative = len(label) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    ranks = rankdata(score)
    return float(
        (ranks[label == 1].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    )


def macro_auroc(label: np.ndarray, score: np.ndarray, columns: np.ndarray) -> float:
    """Mean AUROC over the columns given; resamples without a positive are left out of the mean."""
    return float(np.nanmean([auroc(label[:, j], score[:, j]) for j in columns]))


def share(hits: np.ndarray) -> float:
    """Of how many it is true; NaN of none, as in a resample without a positive."""
    return float(hits.mean()) if len(hits) else float("nan")


def common_columns(label: np.ndarray) -> np.ndarray:
    """Columns with at least MIN_POSITIVES positives and some negatives."""
    positives = (label == 1).sum(axis=0)
    return np.flatnonzero((positives >= MIN_POSITIVES) & ((label == 0).sum(axis=0) > 0))


def ece(label: np.ndarray, probability: np.ndarray, n_bins: int = 10) -> float:
    """Expected calibration error, ten bins of equal width; label -1 is left out."""
    known = label >= 0
    label, probability = label[known], probability[known]
    bins = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    error = 0.0
    for i in range(n_bins):
        inside = bins == i
        if inside.any():
            error += inside.mean() * abs(label[inside].mean() - probability[inside].mean())
    return float(error)


def bootstrap(
    figure: Callable[[np.ndarray], float], patient: np.ndarray, n: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of `figure(rows)` over resamples of patients."""
    values = [figure(rows) for rows in resamples(patient, n, seed)]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def resamples(patient: np.ndarray, n: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The rows of n resamples of as many patients, each with all its records."""
    _, group = np.unique(patient, return_inverse=True)
    rows_of = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    rng = np.random.default_rng(seed)
    for _ in range(n):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        yield np.concatenate([rows_of[i] for i in drawn])
