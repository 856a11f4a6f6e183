"""What a generated ECG is asked to be, and the vector that tells the network.

A part that is not given is zero throughout, so the vector of nothing given is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_AGE, MIN_HEART_RATE, MAX_HEART_RATE = 120.0, 20.0, 250.0


@dataclass(frozen=True)
class Labels:
    """Listed statements are present, the rest not given; None is not given. age in years;
    heart_rate in beats a minute."""

    atrial_substrate: str | None = None  # normal or abnormal
    statements: tuple[str, ...] = ()
    age: float | None = None
    sex: str | None = None  # male or female
    heart_rate: float | None = None


def n_features(statements: Sequence[str]) -> int:
    return len(statements) + 8


def encode(labels: Labels, statements: Sequence[str]) -> np.ndarray:
    """float32 [len(statements) + 8]: a 1 a present statement; then a 1 for normal, abnormal, male
    or female; then age and heart rate, each after a 1 that says that it is given."""
    present = np.isin(statements, labels.statements).astype(np.float32)
    age, heart_rate = labels.age, labels.heart_rate
    rest = [
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
