"""Whether raters tell generated ECGs from real ones, with intervals over ECGs.

What several raters say of one ECG is not independent: intervals come from a bootstrap that draws
ECGs, real and generated each among themselves, with all that was said of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

N_RESAMPLES = 2000
LEVEL = 0.95
_SEED = 20_240_101  # the same interval whenever it is computed


class Said(NamedTuple):
    """One answer: of which ECG, whether that is generated, whether it was said to be, and how
    surely (1 to 3)."""

    ecg: str
    generated: bool
    said_generated: bool
    confidence: int


def detection(said: Sequence[Said]) -> dict[str, Any]:
    """Accuracy (of both kinds alike: the mean of the two shares that are right), sensitivity (of
    generated ECGs those called generated), specificity (real ones called real), and d', the
    distance of the two in standard deviations, with half an answer added to each cell so that none
    is infinite (log-linear: Hautus 1995, doi 10.3758/BF03203619); 0 is chance. auroc: of the sure
    and unsure answers as one scale."""
    counts: dict[str, np.ndarray] = {}
    for one in said:
        cell = counts.setdefault(one.ecg, np.zeros(4))
        cell[2 * one.generated + one.said_generated] += 1
    kinds = {one.ecg: one.generated for one in said}
    found = np.array(list(counts.values())).reshape(-1, 4)
    generated = np.array([kinds[ecg] for ecg in counts], dtype=bool)
    n = found.sum(axis=0)
    figures: dict[str, Any] = {
        "n_real": int(n[:2].sum()),
        "n_generated": int(n[2:].sum()),
        "ecgs_real": int((~generated).sum()),
        "ecgs_generated": int(generated.sum()),
        "confusion": n.astype(int).reshape(2, 2).tolist(),  # [real, generated][said so]
    }
    if not (n[:2].sum() and n[2:].sum()):
        return figures
    drawn = resample(found, generated)
    for name, statistic in _STATISTICS.items():
        figures[name] = with_interval(statistic, n[None], drawn)
    figures["auroc"] = {"value": _auroc(said)}
    return figures


def resample(sums: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """[N_RESAMPLES, k]: the totals of as many ECGs drawn again, within each stratum [n]."""
    rng = np.random.default_rng(_SEED)
    drawn = np.zeros((N_RESAMPLES, sums.shape[1]))
    for value in np.unique(stratum):
        some = sums[stratum == value]
        times = rng.multinomial(len(some), np.full(len(some), 1 / len(some)), N_RESAMPLES)
        drawn += times @ some
    return drawn


def with_interval(
    statistic: Callable[[np.ndarray], np.ndarray], totals: np.ndarray, drawn: np.ndarray
) -> dict[str, Any]:
    """The statistic of the totals [1, k], and its percentile interval over the drawn ones."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(statistic(drawn), (tail, 1 - tail))
    return {"value": float(statistic(totals)[0]), "interval": [float(low), float(high)]}


def share(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    return np.divide(of, among, out=np.full(np.shape(of), np.nan), where=among > 0)


def _specificity(n: np.ndarray) -> np.ndarray:
    return share(n[:, 0], n[:, 0] + n[:, 1])


def _sensitivity(n: np.ndarray) -> np.ndarray:
    return share(n[:, 3], n[:, 2] + n[:, 3])


def _accuracy(n: np.ndarray) -> np.ndarray:
    return (_sensitivity(n) + _specificity(n)) / 2


def _d_prime(n: np.ndarray) -> np.ndarray:
    hits = (n[:, 3] + 0.5) / (n[:, 2] + n[:, 3] + 1)
    alarms = (n[:, 1] + 0.5) / (n[:, 0] + n[:, 1] + 1)
    return ndtri(hits) - ndtri(alarms)


_STATISTICS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "d_prime": _d_prime,
}


def _auroc(said: Sequence[Said]) -> float:
    """Ties count half (Mann and Whitney)."""
    score = np.array([one.confidence * (1 if one.said_generated else -1) for one in said])
    generated = np.array([one.generated for one in said])
    a, b = score[generated][:, None], score[~generated][None, :]
    return float(((a > b) + 0.5 * (a == b)).mean())
