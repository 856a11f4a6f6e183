"""The label vector that training and serving agree on."""

from __future__ import annotations

import numpy as np

from ecg.labels import Labels, encode, n_features

STATEMENTS = ("NORM", "AFIB", "LAO/LAE")


def test_nothing_given_is_zero() -> None:
    assert not encode(Labels(), STATEMENTS).any()
    assert len(encode(Labels(), STATEMENTS)) == n_features(STATEMENTS)


def test_each_part_has_its_own_place() -> None:
    full = Labels("abnormal", ("AFIB",), 80.0, "female", 100.0)
    expected = [0, 1, 0, 0, 1, 0, 1, 1, 1.0, 1, 1.0]
    assert encode(full, STATEMENTS).tolist() == expected
    assert encode(Labels("normal", sex="male"), STATEMENTS).tolist() == [0, 0, 0, 1, 0, 1] + [0] * 5


def test_a_value_of_the_centre_still_shows_that_it_is_given() -> None:
    centre = encode(Labels(age=60.0, heart_rate=75.0), STATEMENTS)
    assert np.flatnonzero(centre).tolist() == [7, 9]
