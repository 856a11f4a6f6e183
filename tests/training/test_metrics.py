"""Figures of merit against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from training.metrics import auroc, bootstrap, common_columns, ece, macro_auroc

SCORED = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=60)


@given(SCORED)
def test_auroc_is_scikit_learns_also_with_ties(pairs):
    label, score = np.array(pairs).T
    if len(set(label)) < 2:
        assert np.isnan(auroc(label, score))
    else:
        assert auroc(label, score) == pytest.approx(roc_auc_score(label, score))


def test_unknown_labels_are_left_out():
    label, score = np.array([1, 0, -1, 0]), np.array([0.8, 0.9, 5.0, 0.1])
    assert auroc(label, score) == 0.5
    assert ece(label, score / 5) == ece(label[[0, 1, 3]], score[[0, 1, 3]] / 5)


def test_the_macro_auroc_is_the_mean_over_columns_that_have_both_classes():
    label = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]])
    score = np.array([[0.9, 0.1, 0.2], [0.1, 0.1, 0.9], [0.8, 0.1, 0.1]])
    assert macro_auroc(label, score, np.array([0, 1, 2])) == pytest.approx((1.0 + 0.5) / 2)
    assert macro_auroc(label, score, np.array([0])) == 1.0


def test_common_columns_have_five_positives_and_a_negative():
    label = np.zeros((20, 4), dtype=int)
    label[:5, 0] = label[:4, 1] = label[:, 2] = 1
    label[:6, 3], label[6:, 3] = 1, -1
    assert common_columns(label).tolist() == [0]


def test_the_calibration_error_by_hand():
    probability = np.array([0.05, 0.05, 0.95, 0.95, 1.0, 0.35])
    label = np.array([0, 1, 1, 1, 0, 0])
    bins = [2 / 6 * abs(0.5 - 0.05), 3 / 6 * abs(2 / 3 - 2.9 / 3), 1 / 6 * 0.35]
    assert ece(label, probability) == pytest.approx(sum(bins))


def test_a_calibrated_probability_has_nearly_no_error(rng):
    probability = rng.random(50_000)
    label = (rng.random(50_000) < probability).astype(int)
    assert ece(label, probability) < 0.01
    assert ece(label, np.clip(probability + 0.2, 0, 1)) > 0.1


def test_the_bootstrap_interval_is_the_normal_one_of_a_mean(rng):
    value = rng.standard_normal(400)
    low, high = bootstrap(lambda rows: value[rows].mean(), np.arange(400))
    half = 1.96 * value.std() / 20
    assert (low, high) == pytest.approx((value.mean() - half, value.mean() + half), abs=0.02)


def test_patients_are_resampled_with_all_their_records():
    """Ten copies of a record tell no more than the one: the interval stays as wide."""
    value = np.arange(20.0)
    once = bootstrap(lambda rows: value[rows].mean(), np.arange(20))
    patient = np.repeat([f"p{i:02d}" for i in range(20)], 10)
    copies = bootstrap(lambda rows: np.repeat(value, 10)[rows].mean(), patient)
    assert copies == pytest.approx(once)
    seen = []
    bootstrap(lambda rows: seen.append(np.bincount(rows, minlength=200)) or 0.0, patient, n=20)
    for counts in seen:
        assert (counts.reshape(20, 10) == counts[::10, None]).all()
        assert counts.sum() == 200


def test_the_bootstrap_is_reproducible_and_passes_over_undefined_resamples():
    label = np.array([1, 0, 0, 0, 0])
    score = np.array([0.9, 0.1, 0.95, 0.3, 0.2])
    first, again = (
        bootstrap(lambda rows: auroc(label[rows], score[rows]), np.arange(5)) for _ in "ab"
    )
    assert first == again
    assert 0 <= first[0] < first[1] <= 1
