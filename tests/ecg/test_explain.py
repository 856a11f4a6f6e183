"""Explanations of networks whose answer is known: a weighted sum of one stretch of one lead."""

import numpy as np
import pytest

from ecg import explain
from ecg.explain import (
    Explanation,
    at_random,
    importance,
    log_odds,
    most,
    one_at_a_time,
    straight_line,
    window_of,
    without,
)

FS, N_SAMPLES = 100.0, 1000
ALL = np.ones(8)
WINDOWS = window_of(N_SAMPLES, FS)


def a_segment(rng):
    """mV [8, 1000] that is 0 at every window's ends, so that a line across one is 0."""
    sig = rng.normal(0, 0.3, (8, N_SAMPLES))
    edge = np.flatnonzero(np.diff(WINDOWS))
    sig[:, [0, -1, *edge, *(edge + 1)]] = 0
    return sig


def summed(lead, begin, end):
    """A network whose log odds are the sum over a stretch of one lead."""
    return lambda copies: copies[:, lead, begin:end].sum(axis=1)


def test_a_sum_over_a_stretch_is_explained_by_its_windows_alone(rng):
    sig = a_segment(rng)
    found = explain.explain(summed(3, 400, 460), sig, ALL, WINDOWS)
    assert found.shape == (8, 50)
    expected = np.zeros((8, 50))
    expected[3, 20:23] = sig[3, 400:460].reshape(3, 20).sum(axis=1)
    assert found == pytest.approx(expected, abs=1e-9)


def test_what_lowers_the_probability_is_below_zero(rng):
    sig = np.abs(a_segment(rng))
    found = explain.explain(lambda c: -c[:, 6, 100:120].sum(axis=1), sig, ALL, WINDOWS)
    assert found[6, 5] == pytest.approx(-sig[6, 100:120].sum())
    assert np.count_nonzero(found) == 1


def test_an_interaction_is_seen_from_both_sides(rng):
    """Log odds that need two stretches at once: without either, nothing is left."""
    sig = np.abs(a_segment(rng))

    def both(copies):
        return copies[:, 0, 200:220].sum(axis=1) * copies[:, 7, 600:620].sum(axis=1)

    found = explain.explain(both, sig, ALL, WINDOWS)
    whole = both(sig[None])[0]
    assert found[0, 10] == found[7, 30] == pytest.approx(whole)
    assert np.count_nonzero(found) == 2


def test_a_lead_that_is_not_known_is_not_asked_about(rng):
    mask = np.array([1, 0, 0, 1, 0, 0, 0, 0])
    gone = one_at_a_time(mask, 50)
    assert gone.shape == (100, 8, 50)
    assert (gone.sum(axis=(1, 2)) == 1).all()
    assert np.array_equal(gone.any(axis=0).all(axis=1), mask == 1)
    sig = a_segment(rng)
    found = explain.explain(lambda c: c.sum(axis=(1, 2)), sig, mask, WINDOWS)
    assert not found[mask == 0].any()


def test_a_short_segment_has_a_short_last_window_and_its_padding_stays():
    windows = window_of(730, FS)
    assert windows[-1] == 36 and (windows == 36).sum() == 10
    sig = np.ones((8, N_SAMPLES)) * np.arange(N_SAMPLES) ** 2
    sig[:, 730:] = 0
    copies = without(sig, np.ones((1, 8, 37), dtype=bool), windows)
    assert not copies.any()
    last = np.zeros((1, 8, 37), dtype=bool)
    last[0, 2, 36] = True
    (copy,) = without(sig, last, windows)
    assert (copy[2, 720:730] == sig[2, 719]).all() and not copy[2, 730:].any()
    assert np.array_equal(np.delete(copy, 2, axis=0), np.delete(sig, 2, axis=0))


def test_a_line_runs_between_the_samples_on_both_sides():
    sig = np.array([[0.0, 1.0, 9.0, -9.0, 9.0, 5.0], [7.0, 7.0, 1.0, 2.0, 3.0, 4.0]])
    gone = np.zeros((2, 2, 6), dtype=bool)
    gone[0, 0, 2:5] = True
    gone[1, 1, :2] = True
    first, second = straight_line(sig, gone)
    assert first[0] == pytest.approx([0, 1, 2, 3, 4, 5])
    assert np.array_equal(first[1], sig[1]) and np.array_equal(second[0], sig[0])
    assert second[1] == pytest.approx([1, 1, 1, 2, 3, 4])


def test_the_most_are_the_highest_of_known_leads():
    speaking = np.arange(400.0).reshape(8, 50)
    mask = np.array([1, 1, 1, 1, 1, 1, 1, 0])
    named = most(speaking, mask, 0.1)
    assert named.sum() == 35 and named[6, 15:].all()
    drawn = at_random(mask, 50, draws=4)
    assert (drawn.sum(axis=(1, 2)) == 35).all() and not drawn[:, 7].any()
    assert len({d.tobytes() for d in drawn}) == 4
    assert np.array_equal(drawn, at_random(mask, 50, draws=4))


def test_importance_is_what_is_lost():
    gone = one_at_a_time(np.array([0, 1]), 3)
    assert np.array_equal(
        importance(gone, 2.0, np.array([2.0, 0.5, 3.0])), [[0, 0, 0], [0, 1.5, -1]]
    )


def test_log_odds_are_finite():
    found = log_odds(np.array([0.0, 0.5, 0.9, 1.0]))
    assert found[1] == 0 and found[2] == pytest.approx(np.log(9))
    assert np.isfinite(found).all() and found[0] == pytest.approx(-found[3], rel=1e-4)


@pytest.mark.parametrize(
    ("status", "expected"), [("abnormal", [[1.0, -0.5]]), ("normal", [[-1.0, 0.5]])]
)
def test_what_speaks_for_the_answer(status, expected):
    lost = np.array([[2.0, -1.0]])
    e = Explanation(0, 0.0, 0.4, ("II",), lost, status, 0.5, 0.5, 0.5, 0.5)
    assert np.array_equal(e.speaking, expected)
    flat = Explanation(0, 0.0, 0.4, ("II",), 0 * lost, status, 0.5, 0.5, 0.5, 0.5)
    assert not flat.speaking.any()
