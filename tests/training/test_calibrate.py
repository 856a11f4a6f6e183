"""Platt's sigmoid recovered, and thresholds against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg.decision import calibrate, sigmoid
from training.calibrate import MIN_POSITIVES, best_f1_threshold, fit


def drawn(rng, slope, offset, n=20_000):
    """Logits and labels of which sigmoid(slope * logit + offset) is the true probability."""
    logit = 2 * rng.standard_normal((n, 1))
    label = (rng.random((n, 1)) < sigmoid(slope * logit + offset)).astype(int)
    return logit, label


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, -1.5), (2.5, 0.7)])
def test_the_true_slope_and_offset_are_recovered(slope, offset, rng):
    found = fit("any", 1, *drawn(rng, slope, offset), ())
    assert found.slope[0] == pytest.approx(slope, abs=0.1)
    assert found.offset[0] == pytest.approx(offset, abs=0.1)
    assert (found.lead_set, found.min_leads) == ("any", 1)


def test_unknown_labels_change_nothing(rng):
    logit, label = drawn(rng, 0.7, 0.3, n=2000)
    some = fit("any", 1, logit[:1000], label[:1000], ())
    label[1000:] = -1
    assert fit("any", 1, logit, label, ()) == some


def test_an_output_without_a_positive_stays_sane(rng):
    logit = rng.standard_normal((50, 2)) - 3
    label = np.stack([np.zeros(50, int), np.full(50, -1)], axis=1)
    found = fit("any", 1, logit, label, ())
    assert 0.1 <= min(found.slope) and max(found.slope) <= 10
    assert (found.slope[1], found.offset[1]) == pytest.approx((1, 0), abs=1e-4), "nothing is known"
    assert found.threshold == (0.5, 0.5)


def f1(probability, label, threshold):
    said = probability >= threshold
    return 2 * (said & (label == 1)).sum() / max(1, said.sum() + (label == 1).sum())


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=40).filter(
        lambda pairs: any(label for label, _ in pairs)
    )
)
def test_no_threshold_has_a_better_f1(pairs):
    label, score = np.array(pairs).T
    probability = score / 20
    found = best_f1_threshold(probability, label)
    best = max(f1(probability, label, t) for t in np.linspace(-0.01, 1.01, 103))
    assert f1(probability, label, found) == pytest.approx(best)


def test_the_threshold_lies_midway_and_ignores_unknown_labels():
    probability = np.array([0.9, 0.8, 0.85, 0.4, 0.1])
    assert best_f1_threshold(probability, np.array([1, 1, -1, 0, 0])) == pytest.approx(0.6)
    assert best_f1_threshold(probability[:2], np.array([1, 1])) == pytest.approx(0.4)


def test_rare_outputs_share_a_threshold_and_common_ones_have_their_own(rng):
    n = 400
    label = np.zeros((n, 4), dtype=int)
    for j, positives in enumerate((100, MIN_POSITIVES - 1, MIN_POSITIVES - 1, MIN_POSITIVES)):
        label[:positives, j] = 1
    logit = 3 * label - 2 + rng.standard_normal((n, 4))
    threshold = fit("any", 1, logit, label, ()).threshold
    assert threshold[1] == threshold[2]
    for j in (0, 3):
        found = fit("any", 1, logit[:, [j]], label[:, [j]], ())
        probability = sigmoid(found.slope[0] * logit[:, j] + found.offset[0])
        best = best_f1_threshold(probability, label[:, j])
        assert threshold[j] == found.threshold[0] == pytest.approx(best, abs=2e-4)
        assert threshold[j] != threshold[1]


def test_what_implies_the_substrate_has_no_lower_threshold(rng):
    label = np.zeros((300, 2), dtype=int)
    label[:150, 0] = label[:100, 1] = 1
    logit = 4 * label - 2 + rng.standard_normal((300, 2))
    found = fit("any", 1, logit, label, [1])
    assert found.threshold[1] >= found.threshold[0]
    probability, threshold = calibrate(logit, np.full(300, 1), [found], [1])
    said = probability >= threshold
    assert said[said[:, 1], 0].all(), "no fibrillation in a normal substrate"
