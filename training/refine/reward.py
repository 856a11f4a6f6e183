"""A reward learned from ratings: an ensemble on what a frozen network makes of an ECG.

It is refused where, on ECGs and raters that it has not seen, it is no better than chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.metrics import auroc, bootstrap, ece
from training.refine.study import Ratings

# Of sig, mV [ecg, 8, n_samples], and the labels told [ecg, features]: [ecg, feature].
Features = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RewardConfig:
    """`members` of the ensemble, each on a resample of the ECGs; `components` of the features that
    are kept; the ridge's `penalty`; how much of the members' `disagreement` (their standard
    deviation) is taken off; `folds` of the cross-validation."""

    members: int = 16
    components: int = 64
    penalty: float = 100.0
    disagreement: float = 1.0
    folds: int = 5
    fewest: int = 100  # ratings; with fewer nothing is learned


@dataclass(frozen=True)
class Reward:
    """A calibrated ensemble. `quality` is what cross-validation said of it."""

    members: tuple[Pipeline, ...]
    calibration: LogisticRegression
    disagreement: float
    quality: dict[str, Any]

    def of(self, x: np.ndarray) -> np.ndarray:
        """[ecg]: the probability that raters take it for good, less the ensemble's disagreement;
        x [ecg, feature]."""
        each = np.stack([self._probability(member.predict(x)) for member in self.members])
        return each.mean(axis=0) - self.disagreement * each.std(axis=0)

    def _probability(self, score: np.ndarray) -> np.ndarray:
        return self.calibration.predict_proba(score[:, None])[:, 1]


def learn(x: np.ndarray, ratings: Ratings, config: RewardConfig, seed: int) -> Reward:
    """From ratings of ECGs with features x [ecg, feature].

    Errors: SystemExit where there are too few ratings, all say the same, or what was learned is no
    better than chance on ECGs, or on raters, that it had not seen.
    """
    if len(ratings.of) < config.fewest:
        raise SystemExit(f"{len(ratings.of)} ratings: a reward wants at least {config.fewest}")
    y = of_one_mind(ratings)
    if y.std() == 0:
        raise SystemExit("all ratings say the same: there is nothing to learn from them")
    split = folds_of(ratings.of, config.folds, seed)
    unseen = _unseen(x, y, ratings, split, config)
    label = upper_half(ratings.good)
    calibration = LogisticRegression().fit(unseen[:, None], label)
    quality = {
        "ratings": len(ratings.of),
        "ecgs": len(np.unique(ratings.of)),
        "who": ratings.who(),
        "by_ecg": _auroc(label, unseen, ratings.of),
        "ece": ece(label, calibration.predict_proba(unseen[:, None])[:, 1]),
    }
    if len(np.unique(ratings.rater)) > 1:
        by_rater = _unseen(x, y, ratings, split, config, but_rater=True)
        quality["by_rater"] = _auroc(label, by_rater, ratings.of)
    _refuse_chance(quality)
    rng = np.random.default_rng((seed, 1))
    members = tuple(
        fit(x[ratings.of[rows]], y[rows], config)
        for rows in (_resample(ratings.of, rng) for _ in range(config.members))
    )
    return Reward(members, calibration, config.disagreement, {**quality, "config": asdict(config)})


def _refuse_chance(quality: Mapping[str, Any]) -> None:
    for name in ("by_ecg", "by_rater"):
        if name in quality and quality[name]["interval"][0] <= 0.5:
            what = "ECGs" if name == "by_ecg" else "raters"
            low, high = quality[name]["interval"]
            raise SystemExit(
                f"refused: on {what} that it has not seen the reward's AUROC is "
                f"{quality[name]['value']:.3f} [{low:.3f}, {high:.3f}], no better than chance; "
                "more ratings, or raters who agree more, are needed"
            )


def of_one_mind(ratings: Ratings) -> np.ndarray:
    """[rating]: how good, with each rater's own mean taken off and that of all put back."""
    names, of = np.unique(ratings.rater, return_inverse=True)
    mean = np.bincount(of, ratings.good) / np.bincount(of, minlength=len(names))
    return ratings.good - mean[of] + ratings.good.mean()


def upper_half(good: np.ndarray) -> np.ndarray:
    """int8 [rating]: 1 for what was said to be good, as nearly half of them as there can be."""
    cuts = np.unique(good)[1:]
    shares = np.array([(good >= cut).mean() for cut in cuts])
    return (good >= cuts[np.abs(shares - 0.5).argmin()]).astype(np.int8)


def folds_of(group: np.ndarray, n: int, seed: int) -> np.ndarray:
    """[rating]: a fold each, the same for all ratings of an ECG."""
    names, of = np.unique(group, return_inverse=True)
    return (np.random.default_rng((seed, 0)).permutation(len(names)) % n)[of]


def fit(x: np.ndarray, y: np.ndarray, config: RewardConfig) -> Pipeline:
    n = min(config.components, len(x) - 1, x.shape[1])
    pipeline = make_pipeline(
        StandardScaler(), PCA(n, whiten=True, random_state=0), Ridge(config.penalty)
    )
    return pipeline.fit(x, y)


def _unseen(
    x: np.ndarray,
    y: np.ndarray,
    ratings: Ratings,
    split: np.ndarray,
    config: RewardConfig,
    but_rater: bool = False,
) -> np.ndarray:
    """[rating]: what is predicted of each by a fit without its fold of ECGs, and, if asked for,
    without its rater."""
    out = np.empty(len(y))
    rater = ratings.rater if but_rater else np.zeros(len(y))
    for fold, one in itertools.product(np.unique(split), np.unique(rater)):
        held = (split == fold) & (rater == one)
        learned = (split != fold) & ((rater != one) if but_rater else True)
        if held.any():
            fitted = fit(x[ratings.of[learned]], y[learned], config)
            out[held] = fitted.predict(x[ratings.of[held]])
    return out


def _auroc(label: np.ndarray, score: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    def figure(rows: np.ndarray) -> float:
        return auroc(label[rows], score[rows])

    return {"value": auroc(label, score), "interval": bootstrap(figure, group)}


def _resample(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of as many groups, drawn with repetition."""
    names, of = np.unique(group, return_inverse=True)
    rows = [np.flatnonzero(of == g) for g in rng.integers(len(names), size=len(names))]
    return np.concatenate(rows)
