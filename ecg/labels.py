"""What a generated ECG is asked to be, and the vector that tells the network.

A part that is not given is zero throughout, so the vector of nothing given is zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_AGE, MIN_HEART_RATE, MAX_HEART_RATE = 120.0, 20.0, 250.0


@dataclass(frozen=True)
class Labels:
    """Listed statements are present; the rest are absent where the list is `complete`, otherwise
    not given. None is not given. age in years; heart_rate in beats a minute."""

    atrial_substrate: str | None = None  # normal or abnormal
    statements: tuple[str, ...] = ()
    age: float | None = None
    sex: str | None = None  # male or female
    heart_rate: float | None = None
    complete: bool = False


# After the statements; each row is given or withheld as one.
OTHER_FEATURES = (
    ("complete",),
    ("normal", "abnormal"),
    ("male", "female"),
    ("age given", "age"),
    ("heart rate given", "heart rate"),
)


def features(statements: Sequence[str]) -> tuple[str, ...]:
    """The name of each feature of `encode`."""
    return (*statements, *itertools.chain.from_iterable(OTHER_FEATURES))


def n_features(statements: Sequence[str]) -> int:
    return len(features(statements))


def encode(labels: Labels, statements: Sequence[str]) -> np.ndarray:
    """float32 [n_features]: a 1 a present statement, a 1 where there are no others; a 1 for normal,
    abnormal, male or female; then age and heart rate, each after a 1 that says that it is given."""
    present = np.isin(statements, labels.statements).astype(np.float32)
    age, heart_rate = labels.age, labels.heart_rate
    rest = [
        labels.complete,
        labels.atrial_substrate == "normal",
        labels.atrial_substrate == "abnormal",
        labels.sex == "male",
        labels.sex == "female",
        age is not None,
        (age - 60) / 20 if age is not None else 0.0,
        heart_rate is not None,
        (heart_rate - 75) / 25 if heart_rate is not None else 0.0,
    ]
    return np.concatenate([present, np.array(rest, dtype=np.float32)])
