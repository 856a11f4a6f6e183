"""Less data: part of the training folds, as if there were no more."""

from __future__ import annotations

import numpy as np

from training.shards import Shard
from training.sources.labelled import PRESENT
from training.train_classifier import TRAIN


def subset(part: Shard, fraction: float, seed: int) -> Shard:
    """The shard with about `fraction` of its training records, whole patients; folds 9 and 10
    untouched.

    Of one seed a smaller fraction lies inside a larger one. Each statement, and each atrial
    substrate, keeps at least one record, where that many fit. Errors: SystemExit where the fraction
    is not above 0 and at most 1, or where nothing is left.
    """
    if not 0 < fraction <= 1:
        raise SystemExit(f"fraction {fraction:g}: above 0 and at most 1")
    training = np.isin(part.strat_fold, TRAIN)
    if fraction == 1:
        return part
    rows = np.flatnonzero(training)
    patients, patient = np.unique(part.patient[rows], return_inverse=True)
    order = _order(part.label[rows], patient, np.random.default_rng(seed))
    n_records = np.bincount(patient, minlength=len(patients))[order]
    wanted = round(fraction * len(rows))
    n_patients = int((np.cumsum(n_records) <= wanted).sum())
    if not n_patients:
        raise SystemExit(f"fraction {fraction:g} of {len(rows)} training records leaves none")
    kept = np.isin(patient, order[:n_patients])
    return part.records(~training | np.isin(np.arange(len(training)), rows[kept]))


def _order(label: np.ndarray, patient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The patients, in the order in which they are taken: by chance, but first, from the rarest
    statement on, one with each that nobody before has.

    label: [record, 1 + statements]; patient: [record], their numbers.
    """
    by_chance = rng.permutation(patient.max(initial=-1) + 1)
    normal = label[:, :1] == 1 - PRESENT
    present = np.concatenate([label == PRESENT, normal], axis=1)
    n_present = present.sum(axis=0)
    place = np.argsort(by_chance)
    first: list[int] = []
    for j in np.argsort(n_present, kind="stable"):
        holders = np.unique(patient[present[:, j]])
        if len(holders) and not np.isin(holders, first).any():
            first.append(int(holders[place[holders].argmin()]))
    return np.concatenate([np.array(first, int), by_chance[~np.isin(by_chance, first)]])
