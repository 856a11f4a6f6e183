"""How far a generated set is from real ECGs in an embedding: distances and coverage, n small.

Everything is measured between sets of as many ECGs, beside the same between real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

K_NEAREST = 5
N_RESAMPLES = 200


@dataclass(frozen=True)
class Space:
    """An embedding's features, standardised and turned to the `axes` [features, dimensions] along
    which real training ECGs differ most. Their total variance there is 1."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """What could not be measured counts as average."""
        return np.nan_to_num((features - self.mean) / self.scale) @ self.axes


def fit_space(features: np.ndarray, n: int) -> Space:
    """Of training ECGs' features [m, features], for sets of `n`: as many dimensions as n // 10, at
    most 32. A covariance of more would not be known from n ECGs, and distances between neighbours
    say less the more dimensions there are."""
    mean, std = np.nanmean(features, axis=0), np.nanstd(features, axis=0)
    scale = np.where(std > 1e-6, std, np.inf)  # what never changes tells nothing
    z = np.nan_to_num((features - mean) / scale)
    variance, axes = np.linalg.eigh(np.cov(z, rowvar=False))
    k = max(1, min(32, n // 10, len(variance)))
    axes, variance = axes[:, ::-1][:, :k], variance[::-1][:k]
    return Space(mean, scale, axes / np.sqrt(variance.sum()))


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Squared distance between the Gaussians that fit both [n, dimensions] (Heusel et al. 2017,
    doi 10.48550/arXiv.1706.08500)."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(a))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ np.atleast_2d(b) @ root)
    means = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    trace = np.trace(np.atleast_2d(a)) + np.trace(np.atleast_2d(b))
    return float(means + trace - 2 * np.sqrt(np.maximum(shared, 0)).sum())


def frechet_distance(
    x: np.ndarray, y: np.ndarray, patient_x: np.ndarray, patient_y: np.ndarray, seed: int = 0
) -> dict:
    """The distance of as many ECGs as there are, what it would be of infinitely many, and the
    latter's 95% interval over patients.

    A distance of n ECGs is too long by about c / n: that of halves tells c (Chong and Forsyth 2020,
    doi 10.1109/CVPR42600.2020.00611). How far halves, drawn without replacement by patient, scatter
    is how far the whole does (Shao and Wu 1989, doi 10.1214/aos/1176347263); drawn with
    replacement, ECGs would come twice and covariances would look narrower than they are.
    """
    rng = np.random.default_rng(seed)
    whole = frechet(x, y)
    halves = np.array(
        [
            frechet(x[half_of(patient_x, rng)], y[half_of(patient_y, rng)])
            for _ in range(N_RESAMPLES)
        ]
    )
    value = 2 * whole - float(halves.mean())
    low, high = np.percentile(halves - halves.mean(), (2.5, 97.5))
    return {"value": value, "interval": (value + float(low), value + float(high)), "of_n": whole}


def half_of(patient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows of half of the patients."""
    names = np.unique(patient)
    return np.flatnonzero(np.isin(patient, rng.permutation(names)[: len(names) // 2]))


def manifold(real: np.ndarray, made: np.ndarray, k: int = K_NEAREST) -> dict[str, np.ndarray]:
    """What each ECG contributes to four shares; the mean of each is the figure.

    precision [made]: 1 within the reach of a real ECG, which ends at its k-th neighbour; recall
    [real]: 1 within the reach of a generated one (Kynkaanniemi et al. 2019, doi
    10.48550/arXiv.1904.06991). density [made]: within how many real ECGs' reach, in units of k;
    coverage [real]: 1 where a generated ECG is in reach (Naeem et al. 2020, doi
    10.48550/arXiv.2002.09797).
    """
    between = cdist(real, made)
    reach_real, reach_made = reach(real, k), reach(made, k)
    return {
        "precision": (between <= reach_real[:, None]).any(axis=0).astype(float),
        "recall": (between <= reach_made[None, :]).any(axis=1).astype(float),
        "density": (between <= reach_real[:, None]).sum(axis=0) / k,
        "coverage": (between.min(axis=1) <= reach_real).astype(float),
    }


def reach(x: np.ndarray, k: int) -> np.ndarray:
    """[n]: how far the k-th other ECG is."""
    return np.partition(cdist(x, x), k, axis=1)[:, k]


def manifold_figures(
    real: np.ndarray, made: np.ndarray, patient_real: np.ndarray, patient_made: np.ndarray
) -> dict[str, dict]:
    """Precision, recall, density and coverage, each with its 95% interval over the patients of the
    ECGs that it is a mean of; the other set's reach is taken as it is, since in a resample every
    ECG that comes twice would have itself for a neighbour."""
    each = manifold(real, made)
    whose = {"precision": patient_made, "density": patient_made}
    return {
        name: {
            "value": float(values.mean()),
            "interval": interval_of_mean(values, whose.get(name, patient_real)),
        }
        for name, values in each.items()
    }


def interval_of_mean(
    values: np.ndarray, patient: np.ndarray, n: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95% interval over resamples of patients: as `metrics.bootstrap` of the mean, all at once."""
    _, group = np.unique(patient, return_inverse=True)
    total, count = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(seed).integers(len(count), size=(n, len(count)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def pairwise(
    x: np.ndarray, patient: np.ndarray, n: int = N_RESAMPLES, seed: int = 0
) -> tuple[float, np.ndarray]:
    """The mean distance between ECGs of different patients, and that of resamples of patients."""
    names, group = np.unique(patient, return_inverse=True)
    apart = cdist(x, x)
    differ = (group[:, None] != group[None, :]).astype(float)
    sums = _by_group(apart * differ, group, len(names))
    counts = _by_group(differ, group, len(names))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        drawn.append((times @ sums @ times) / (times @ counts @ times))
    return float(sums.sum() / counts.sum()), np.array(drawn)


def _by_group(x: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """[n, n]: sums of x [rows, rows] over the rows of each group."""
    member = np.zeros((n, len(group)))
    member[group, np.arange(len(group))] = 1
    return member @ x @ member.T


def vendi(x: np.ndarray, width: float) -> float:
    """How many ECGs that have nothing in common the set is worth, 1 to n: the exponential of the
    entropy of the eigenvalues of a Gaussian kernel of that width (Friedman and Dieng 2023, doi
    10.48550/arXiv.2210.02410)."""
    kernel = np.exp(-(cdist(x, x) ** 2) / (2 * width**2)) / len(x)
    values = np.linalg.eigvalsh(kernel)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def by_patient(patient: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """At most n rows, of patients drawn by lot, each with all its rows while they fit."""
    order = np.random.default_rng(seed).permutation(np.unique(patient))
    rank = {name: i for i, name in enumerate(order)}
    by_rank = np.argsort([rank[name] for name in patient], kind="stable")
    return np.sort(by_rank[:n])


def compare(
    real: np.ndarray, other: np.ndarray, patient_real: np.ndarray, patient_other: np.ndarray, n: int
) -> dict[str, dict]:
    """Every figure of this file between n real ECGs and n others, [.., dimensions]."""
    rows = by_patient(patient_real, n), by_patient(patient_other, n)
    x, y = real[rows[0]], other[rows[1]]
    whose = patient_real[rows[0]], patient_other[rows[1]]
    return {"frechet": frechet_distance(x, y, *whose), **manifold_figures(x, y, *whose)}
