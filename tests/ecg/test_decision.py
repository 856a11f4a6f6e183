"""From logits to one answer a record, against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg.decision import Calibration, RecordRule, atrial_at_least, calibrate, decide, sigmoid

TWELVE = Calibration("12", 4, (2.0, 1.0), (0.5, 0.0), (0.4, 0.6))
LIMBS = Calibration("limbs", 2, (1.0, 1.0), (1.0, 1.0), (0.3, 0.3))
ONE = Calibration("one", 1, (0.5, 0.5), (-1.0, 0.0), (0.2, 0.1))


def platt(x, slope, offset):
    return 1 / (1 + np.exp(-(slope * x + offset)))


@pytest.mark.parametrize(
    ("n_leads", "used"),
    [(8, TWELVE), (4, TWELVE), (3, LIMBS), (2, LIMBS), (1, ONE)],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_calibration_is_that_of_the_number_of_leads(n_leads, used, order):
    logits = np.array([[-1.0, 2.0]], dtype=np.float32)
    probability, threshold = calibrate(
        logits, np.array([n_leads]), (TWELVE, LIMBS, ONE)[::order], ()
    )
    expected = platt(logits, np.array(used.slope), np.array(used.offset))
    np.testing.assert_allclose(probability, expected, rtol=1e-6)
    assert threshold.tolist() == [list(used.threshold)]


def test_every_segment_has_its_own_calibration():
    logits = np.zeros((3, 2))
    probability, threshold = calibrate(logits, np.array([1.0, 8.0, 2.0]), [TWELVE, ONE, LIMBS], ())
    np.testing.assert_allclose(probability[:, 0], platt(0, 1, np.array([-1, 0.5, 1])), rtol=1e-6)
    assert threshold[:, 1].tolist() == [0.1, 0.6, 0.3]


def test_fewer_leads_than_any_calibration_take_the_smallest():
    _, threshold = calibrate(np.zeros((1, 2)), np.array([1]), [TWELVE, LIMBS], ())
    assert threshold.tolist() == [[0.3, 0.3]]


def test_what_implies_an_abnormal_substrate_lifts_it():
    given = np.array([[0.2, 0.9, 0.5], [0.7, 0.1, 0.99]])
    lifted = atrial_at_least(given, [1])
    assert lifted.tolist() == [[0.9, 0.9, 0.5], [0.7, 0.1, 0.99]]
    assert given[0, 0] == 0.2
    np.testing.assert_array_equal(atrial_at_least(given, []), given)
    probability, _ = calibrate(np.array([[-3.0, 3.0]]), np.array([8]), [TWELVE], [1])
    assert probability[0, 0] == probability[0, 1] == pytest.approx(platt(3, 1, 0))


@given(st.floats(-800, 800))
def test_the_sigmoid_is_exact_and_never_overflows(x):
    assert sigmoid(np.float64(x)) == pytest.approx(1 / (1 + np.exp(-np.clip(x, -700, 700))))


def decided(probabilities, rule, signal_s=None, thresholds=None):
    p = np.array(probabilities, dtype=float)[:, None]
    t = np.full_like(p, 0.5) if thresholds is None else np.array(thresholds, dtype=float)[:, None]
    s = np.full(len(p), 10.0) if signal_s is None else np.array(signal_s, dtype=float)
    probability, threshold = decide(p, t, s, rule)
    return float(probability[0]), float(threshold[0])


@pytest.mark.parametrize(("top_k", "expected"), [(1, 0.9), (2, 0.8), (3, 0.6), (7, 0.475)])
def test_a_record_is_as_probable_as_its_highest_segments(top_k, expected):
    probability, _ = decided([0.1, 0.9, 0.2, 0.7], RecordRule(top_k))
    assert probability == pytest.approx(expected)


def test_each_output_has_its_own_highest_segment():
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    probability, _ = decide(p, np.full_like(p, 0.5), np.array([10.0, 10.0]), RecordRule(1))
    assert probability.tolist() == [0.9, 0.8]


def test_a_paroxysm_in_a_day_does_not_vanish():
    day = [0.01] * 8640
    day[5000] = 0.97
    assert decided(day, RecordRule(1))[0] == 0.97


def test_a_short_remainder_is_shown_but_does_not_count():
    assert decided([0.2, 0.9], RecordRule(1, min_signal_s=5.0), signal_s=[10, 4.99])[0] == 0.2
    assert decided([0.2, 0.9], RecordRule(1, min_signal_s=5.0), signal_s=[10, 5.0])[0] == 0.9


def test_where_no_segment_is_long_enough_all_count():
    assert decided([0.2, 0.9], RecordRule(1, min_signal_s=5.0), signal_s=[4, 3])[0] == 0.9


def test_the_threshold_is_that_of_the_segment_that_decides():
    assert decided([0.3, 0.6], RecordRule(1), thresholds=[0.2, 0.4]) == (0.6, 0.4)
    assert decided([0.9, 0.6], RecordRule(1), [4, 10], thresholds=[0.2, 0.4]) == (0.6, 0.4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 4))
def test_the_order_of_segments_does_not_matter(probabilities, top_k):
    forward = decided(probabilities, RecordRule(top_k))[0]
    assert forward == pytest.approx(decided(probabilities[::-1], RecordRule(top_k))[0])
    assert forward <= max(probabilities) + 1e-12
