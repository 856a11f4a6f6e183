"""Agreement against others' code, and against the examples of those who defined it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from service.rating.agreement import alpha, kappa

# Krippendorff's example: 4 observers, 12 units, values 1 to 5 (Hayes and Krippendorff 2007)
NONE = np.nan
EXAMPLE = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
)


@pytest.mark.parametrize(("scale", "known"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_is_the_published_one(scale, known) -> None:
    assert alpha(EXAMPLE - 1, 5, scale) == pytest.approx(known, abs=0.0006)


def test_alpha_of_nothing_to_compare_is_none() -> None:
    assert alpha(np.array([[0.0, 1.0, NONE]]), 2, "nominal") is None
    assert alpha(np.zeros((3, 5)), 2, "nominal") is None
    assert alpha(np.array([[0.0, 1.0], [0.0, 1.0]]), 2, "nominal") == 1


@pytest.mark.parametrize(("scale", "weights"), [("nominal", None), ("ordinal", "quadratic")])
def test_kappa_is_that_of_scikit_learn(scale, weights, rng) -> None:
    for n in (2, 3, 5):
        one = rng.integers(0, n, 80)
        other = np.where(rng.random(80) < 0.6, one, rng.integers(0, n, 80))
        found = kappa(one.tolist(), other.tolist(), n, scale)
        expected = cohen_kappa_score(one, other, labels=range(n), weights=weights)
        assert found == pytest.approx(expected)


def test_kappa_is_none_where_chance_explains_all() -> None:
    assert kappa([], [], 2, "nominal") is None
    assert kappa([1, 1], [1, 1], 2, "nominal") is None
