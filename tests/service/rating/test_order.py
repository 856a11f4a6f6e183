"""What is shown when: every ECG once, some again, far enough apart, and no order of sources."""

from __future__ import annotations

import numpy as np
import pytest

from service.rating.order import APART, course, pairs

LABELS = ["NORM", "AFIB"] * 30


@pytest.mark.parametrize("n", [2, 3, 5, 40, 60])
@pytest.mark.parametrize("repeats", [0.0, 0.1, 0.5])
def test_each_is_shown_once_and_some_again(n: int, repeats: float) -> None:
    shown = course(LABELS[:n], "single", repeats, 3, 0)
    first = [one for one in shown if one.repeat_of is None]
    assert sorted(one.item for one in first) == list(range(n))
    again = [(i, one) for i, one in enumerate(shown) if one.repeat_of is not None]
    assert len(again) == min(round(repeats * n), n - max(1, round(APART * n)))
    assert len({one.item for _, one in again}) == len(again)
    for i, one in again:
        assert shown[one.repeat_of].item == one.item
        assert shown[one.repeat_of].repeat_of is None
        assert i - one.repeat_of >= max(1, round(APART * n))


def test_the_same_seed_and_rater_see_the_same_and_others_do_not() -> None:
    one = course(LABELS, "single", 0.1, 3, 0)
    assert course(LABELS, "single", 0.1, 3, 0) == one
    assert course(LABELS, "single", 0.1, 3, 1) != one
    assert course(LABELS, "single", 0.1, 4, 0) != one


def test_where_an_ecg_comes_says_nothing_of_its_number() -> None:
    at = np.array(
        [
            [i for i, one in enumerate(course(LABELS, "single", 0.0, 1, rater)) if one.item == k]
            for rater in range(200)
            for k in (0, 59)
        ]
    ).reshape(200, 2)
    assert np.abs(at.mean(axis=0) - 29.5).max() < 5


def test_pairs_are_of_one_label_and_the_same_for_all() -> None:
    found = pairs([*LABELS, "LVH"], 5)
    assert len(found) == 30
    flat = [i for pair in found for i in pair]
    assert len(set(flat)) == len(flat)
    assert all(LABELS[a] == LABELS[b] for a, b in found)
    asked = {frozenset(pair) for pair in found}
    left = []
    for rater in range(60):
        shown = course([*LABELS, "LVH"], "pairs", 0.1, 5, rater)
        first = [one for one in shown if one.repeat_of is None]
        assert {frozenset((one.item, one.other)) for one in first} == asked
        left += [one.item < one.other for one in first]
        for one in shown:
            if one.repeat_of is not None:
                before = shown[one.repeat_of]
                assert (one.item, one.other) == (before.other, before.item)
    assert abs(np.mean(left) - 0.5) < 0.06
