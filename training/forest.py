"""python -m training.forest: a random forest on interpretable features, beside the networks.

(Breiman 2001, doi 10.1023/A:1010933404324.) It is a trial like those of `training.tstr`: fitted on
folds 1-8, its settings chosen on fold 9, fold 10 only read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.pipeline import Pipeline, make_pipeline

from training.features.table import FEATURES, NAMES
from training.features.tables import kept_features
from training.shards import load
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE, REPORT, TRAIN, covered_statements
from training.tstr import Outcome, Trial, scores, segment_labels, training_part

NAME = "forest"
MIN_LEAF, MAX_FEATURES = (2, 5, 10), ("sqrt", 0.3)
N_TREES = 200
N_SHUFFLES = 3


def main() -> None:
    args = parser().parse_args()
    path = args.data / f"{args.source}.npz"
    if not path.exists():
        raise SystemExit(f"no shard {path}: run python -m training.prepare first")
    others = [args.data / f"{name}.npz" for name in args.training or (args.source,)]
    if missing := [str(other) for other in others if not other.exists()]:
        raise SystemExit(f"no shard {missing[0]}: --training takes names of shards in --data")
    trial = Trial(NAME, tuple(map(str, others)), str(path), args.seed, args.trees, network=NAME)
    outcome = run(trial, args.run, args.workers)
    held_out = whole_segments(load(path)).folds(CHOOSE)
    figures = scores(segment_labels(held_out, outcome.statements), outcome.logits[CHOOSE[0]])
    print("fold 9: " + ", ".join(f"{name} {figure:.3f}" for name, figure in figures.items()))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m training.forest", description=(__doc__ or "").partition(": ")[2]
    )
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--source", default="ptb-xl", help="the shard whose folds 9 and 10 are read")
    p.add_argument("--training", nargs="+", help="shards whose folds 1-8 it learns; the source's")
    p.add_argument("--run", type=Path, default=Path("runs/forest"), help="resumed if begun")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--trees", type=int, default=N_TREES)
    p.add_argument("--workers", type=int, default=os.cpu_count())
    return p


def run(trial: Trial, folder: Path, workers: int = 1) -> Outcome:
    """Fit the trial's forest, of `steps` trees, or read what it left: logits-9.npy, logits-10.npy
    and forest.json, with what was chosen and how much each feature matters."""
    real = whole_segments(load(Path(trial.real)))
    statements = covered_statements([real.folds(TRAIN)])
    paths = {fold: folder / f"logits-{fold}.npy" for fold in (*CHOOSE, *REPORT)}
    kept = folder / "trial.json"
    if kept.exists() and kept.read_text() == trial.described():
        return Outcome(trial, statements, {fold: np.load(p) for fold, p in paths.items()})
    folder.mkdir(parents=True, exist_ok=True)
    x, y = training_rows(trial, statements, folder, workers)
    measured = {
        fold: kept_features(real.folds((fold,)), folder / f"features-{fold}.npz", workers)
        for fold in paths
    }
    label = segment_labels(real.folds(CHOOSE), statements)
    model, found = choose(x, y, measured[CHOOSE[0]], label, trial, workers)
    logits = {fold: logits_of(model, rows) for fold, rows in measured.items()}
    found["importance"] = importance(model, measured[CHOOSE[0]], label, trial.seed)
    (folder / "forest.json").write_text(json.dumps(found, indent=1) + "\n")
    for fold, path in paths.items():
        np.save(path, logits[fold])
    kept.write_text(trial.described())
    return Outcome(trial, statements, logits)


def training_rows(
    trial: Trial, statements: tuple[str, ...], folder: Path, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of all segments in folds 1-8 of the trial's shards."""
    x, y = [], []
    for path in map(Path, trial.training):
        part = training_part(trial, str(path))
        x.append(kept_features(part, folder / f"features-{path.stem}.npz", workers))
        y.append(segment_labels(part, statements))
    return np.concatenate(x), np.concatenate(y)


def choose(
    x: np.ndarray,
    y: np.ndarray,
    held_out: np.ndarray,
    label: np.ndarray,
    trial: Trial,
    workers: int,
) -> tuple[Pipeline, dict]:
    """The forest that scores highest on fold 9, and what all of them scored."""
    best, tried = None, []
    for leaf, share in itertools.product(MIN_LEAF, MAX_FEATURES):
        model = forest(trial.steps, leaf, share, trial.seed, workers).fit(x, _target(y))
        figures = scores(label, logits_of(model, held_out))
        tried.append({"min_samples_leaf": leaf, "max_features": share, **figures})
        score = float(np.mean(list(figures.values())))
        print(f"{leaf} a leaf, {share} of the features: {score:.4f} on fold 9", flush=True)
        if best is None or score > best[0]:
            best = score, model, tried[-1]
    assert best is not None
    return best[1], {"chosen": best[2], "tried": tried, "trees": trial.steps}


def forest(
    trees: int, min_samples_leaf: int, max_features: str | float, seed: int, workers: int
) -> Pipeline:
    """One forest for all outputs; what is not measured is the median of the training rows."""
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        RandomForestClassifier(
            trees,
            min_samples_leaf=min_samples_leaf,
            max_features=max_features,
            random_state=seed,
            n_jobs=workers,
        ),
    )


def logits_of(model: Pipeline, x: np.ndarray) -> np.ndarray:
    """float32 [row, outputs], finite. Unknown (-1) is a class of its own to the trees: a
    probability is that of 1 among what is known."""
    trees = model[-1]
    n = trees.n_estimators
    shares, classes = model.predict_proba(x), trees.classes_
    if trees.n_outputs_ == 1:
        shares, classes = [shares], [classes]
    out = np.empty((len(x), len(shares)), dtype=np.float32)
    for j, (share, known) in enumerate(zip(shares, classes, strict=True)):
        p = {int(c): share[:, i] for i, c in enumerate(known)}
        one, zero = (p.get(c, np.zeros(len(x))) for c in (1, 0))
        out[:, j] = np.log((one + 0.5 / n) / (zero + 0.5 / n))
    return out


def importance(model: Pipeline, x: np.ndarray, label: np.ndarray, seed: int) -> list[dict]:
    """What the fold-9 score loses where a feature is shuffled, the largest loss first."""
    model[-1].n_jobs = 1  # a prediction is too short to share

    def score(fitted: Pipeline, rows: np.ndarray, truth: np.ndarray) -> float:
        return float(np.mean(list(scores(truth, logits_of(fitted, rows)).values())))

    found = permutation_importance(
        model, x, label, scoring=score, n_repeats=N_SHUFFLES, random_state=seed
    )
    return [
        {
            "feature": NAMES[i],
            "unit": FEATURES[NAMES[i]][0],
            "meaning": FEATURES[NAMES[i]][1],
            "loss": float(found.importances_mean[i]),
            "deviation": float(found.importances_std[i]),
        }
        for i in np.argsort(-found.importances_mean)
    ]


def _target(y: np.ndarray) -> np.ndarray:
    return y[:, 0] if y.shape[1] == 1 else y


if __name__ == "__main__":
    main()
