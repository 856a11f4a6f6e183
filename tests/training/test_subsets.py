"""Less data, as if there were no more: nested, by patient, no statement lost without need."""

from __future__ import annotations

import numpy as np
import pytest

from training.shards import CODES, Shard
from training.subsets import subset

TRAIN = range(1, 9)


def planted(a_shard, n: int = 400) -> Shard:
    """Two records a patient, two segments a record; statement j has j // 2 + 1 records in folds
    1-8, and each record of fold 9 and 10 has them all."""
    fold = 1 + (np.arange(n) // 2) % 10
    label = np.zeros((n, 1 + len(CODES)), np.int8)
    rng = np.random.default_rng(3)
    training = np.flatnonzero(fold <= 8)
    for j in range(len(CODES)):
        label[rng.choice(training, j // 2 + 1, replace=False), 1 + j] = 1
    label[fold > 8] = 1
    label[training[:3], 0] = 1
    segments = 2 * n
    rows = np.arange(segments, dtype=np.float16)
    return a_shard(
        n,
        sig=np.zeros((segments, 8, 1000), np.float16) + rows[:, None, None],
        lead_mask=np.ones((segments, 8), np.uint8),
        n_valid=np.full(segments, 1000, np.int32),
        record=(np.arange(segments) // 2).astype(np.int32),
        label=label,
        strat_fold=fold.astype(np.int8),
        patient=np.array([f"p{i // 2}" for i in range(n)]),
    )


def patients(part: Shard) -> set[str]:
    return set(part.folds(TRAIN).patient.tolist())


def test_a_smaller_fraction_lies_inside_a_larger_one(a_shard) -> None:
    part = planted(a_shard)
    sets = [patients(subset(part, f, seed=1)) for f in (0.05, 0.1, 0.25, 0.5, 1.0)]
    assert all(a < b for a, b in zip(sets[:-1], sets[1:], strict=True))


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.9])
def test_as_many_records_as_asked_for_and_whole_patients(a_shard, fraction: float) -> None:
    part = planted(a_shard)
    kept = subset(part, fraction, seed=0).folds(TRAIN)
    n = len(part.folds(TRAIN).label)
    assert fraction * n - 2 < len(kept.label) <= fraction * n
    whole = np.isin(part.folds(TRAIN).patient, kept.patient)
    assert whole.sum() == len(kept.label)


def test_folds_9_and_10_are_untouched(a_shard) -> None:
    part = planted(a_shard)
    kept, before = (p.folds((9, 10)) for p in (subset(part, 0.05, seed=0), part))
    assert np.array_equal(kept.sig, before.sig)
    assert np.array_equal(kept.label, before.label)
    assert np.array_equal(kept.record, before.record)
    assert patients(subset(part, 0.05, seed=0)).isdisjoint(before.patient)


def test_segments_stay_with_their_records(a_shard) -> None:
    part = planted(a_shard)
    kept = subset(part, 0.3, seed=0)
    rows = kept.sig[:, 0, 0].astype(int)
    assert np.array_equal(kept.patient[kept.record], part.patient[part.record[rows]])
    assert np.array_equal(kept.label[kept.record], part.label[part.record[rows]])


def test_each_statement_keeps_a_record_where_they_fit(a_shard) -> None:
    part = planted(a_shard)
    for seed in range(3):
        kept = subset(part, 0.3, seed).folds(TRAIN)
        assert (kept.label[:, 1:] == 1).any(axis=0).all()
        assert (kept.label[:, 0] == 1).any() and (kept.label[:, 0] == 0).any()
    by_chance = np.isin(part.patient, sorted(patients(part))[:48]) & (part.strat_fold <= 8)
    assert not (part.label[by_chance, 1:] == 1).any(axis=0).all()


def test_what_fits_no_more_begins_with_the_rarest(a_shard) -> None:
    kept = subset(planted(a_shard), 0.02, seed=0).folds(TRAIN)
    assert (kept.label[:, 1:3] == 1).any(axis=0).all()


def test_beyond_that_chance_decides(a_shard) -> None:
    part = planted(a_shard)
    sets = [patients(subset(part, 0.5, seed)) for seed in (0, 1)]
    assert sets[0] == patients(subset(part, 0.5, seed=0))
    assert 0.3 < len(sets[0] & sets[1]) / len(sets[0]) < 0.9


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_a_fraction_that_is_none_is_refused(a_shard, fraction: float) -> None:
    with pytest.raises(SystemExit, match="above 0 and at most 1"):
        subset(planted(a_shard), fraction, seed=0)


def test_a_fraction_that_leaves_nothing_is_refused(a_shard) -> None:
    with pytest.raises(SystemExit, match="leaves none"):
        subset(planted(a_shard), 0.001, seed=0)
