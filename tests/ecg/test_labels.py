"""The label vector that training and serving agree on."""

from __future__ import annotations

from ecg.labels import Labels, encode, features, n_features

STATEMENTS = ("NORM", "AFIB", "LAO/LAE")


def given(labels: Labels) -> dict[str, float]:
    """The features that are not zero, by name."""
    values = zip(features(STATEMENTS), encode(labels, STATEMENTS).tolist(), strict=True)
    return {name: value for name, value in values if value}


def test_nothing_given_is_zero() -> None:
    assert not encode(Labels(), STATEMENTS).any()
    assert len(encode(Labels(), STATEMENTS)) == n_features(STATEMENTS)


def test_each_part_has_its_own_place() -> None:
    full = Labels("abnormal", ("AFIB",), 80.0, "female", 100.0, complete=True)
    assert given(full) == {
        **{"AFIB": 1, "complete": 1, "abnormal": 1, "female": 1},
        **{"age given": 1, "age": 1, "heart rate given": 1, "heart rate": 1},
    }
    assert given(Labels("normal", sex="male")) == {"normal": 1, "male": 1}


def test_a_value_of_the_centre_still_shows_that_it_is_given() -> None:
    assert given(Labels(age=60.0, heart_rate=75.0)) == {"age given": 1, "heart rate given": 1}
