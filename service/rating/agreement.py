"""How far raters agree, with themselves and with each other, beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Scale = Literal["nominal", "ordinal"]


def kappa(one: Sequence[int], other: Sequence[int], n: int, scale: Scale) -> float | None:
    """Cohen's kappa (1960, doi 10.1177/001316446002000104) of two raters' values 0 to n - 1 of the
    same ECGs; of an ordinal scale weighted by the squared difference (1968, doi
    10.1037/h0026256). None where chance alone would agree, or there is nothing."""
    table = np.zeros((n, n))
    np.add.at(table, (np.asarray(one, int), np.asarray(other, int)), 1.0)
    i, j = np.indices((n, n))
    apart = (i - j) ** 2.0 if scale == "ordinal" else (i != j).astype(float)
    total = table.sum()
    if not total:
        return None
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    expected = float((apart * by_chance).sum())
    return 1 - float((apart * table).sum()) / expected if expected else None


def alpha(values: np.ndarray, n: int, scale: Scale) -> float | None:
    """Krippendorff's alpha (Hayes and Krippendorff 2007, doi 10.1080/19312450709336664) of values
    0 to n - 1, NaN where a rater did not judge, [rater, ECG]. None where nothing differs, or no ECG
    has two values."""
    coincidences = np.zeros((n, n))
    for column in values.T:
        known = column[~np.isnan(column)].astype(int)
        if len(known) < 2:
            continue
        counts = np.bincount(known, minlength=n).astype(float)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(known) - 1)
    margin = coincidences.sum(axis=0)
    total = margin.sum()
    apart = _apart(margin, scale)
    expected = float((apart * np.outer(margin, margin)).sum())
    if total < 2 or not expected:
        return None
    return 1 - (total - 1) * float((apart * coincidences).sum()) / expected


def _apart(margin: np.ndarray, scale: Scale) -> np.ndarray:
    """The squared difference of two values, [n, n]: of ordinal ones by the ranks between them."""
    n = len(margin)
    if scale == "nominal":
        return 1.0 - np.eye(n)
    middle = np.cumsum(margin) - margin / 2
    return (middle[:, None] - middle[None, :]) ** 2
