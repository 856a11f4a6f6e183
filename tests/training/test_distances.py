"""Distances between sets: nothing between equal ones, and more the more is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from training.judging import distances

N, DIMENSIONS = 240, 6


def two(rng: np.random.Generator, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    patient = np.arange(n).astype(str)
    return rng.standard_normal((n, DIMENSIONS)), rng.standard_normal((n, DIMENSIONS)), patient


def test_the_distance_of_gaussians_is_the_closed_form(rng: np.random.Generator) -> None:
    x = rng.standard_normal((50_000, 2)) * (1, 2)
    y = rng.standard_normal((50_000, 2)) * (3, 2) + (0, 5)
    assert distances.frechet(x, y) == pytest.approx(25 + (3 - 1) ** 2, rel=0.02)
    assert distances.frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_equal_sets_are_at_no_distance_and_damage_adds_to_it(rng: np.random.Generator) -> None:
    x, y, patient = two(rng)
    none, some, more = (
        distances.frechet_distance(x, y + shift, patient, patient) for shift in (0, 0.3, 0.6)
    )
    low, high = none["interval"]
    assert low <= 0 <= high, "what it would be of infinitely many"
    assert none["of_n"] > 0.05, "that of so few is too long"
    assert none["value"] < some["value"] < more["value"]
    assert some["interval"][0] > 0
    assert some["value"] == pytest.approx(DIMENSIONS * 0.3**2, abs=0.25)


def test_intervals_are_as_wide_as_repetitions_scatter(rng: np.random.Generator) -> None:
    found = [
        distances.frechet_distance(x, y + 0.5, p, p) for x, y, p in (two(rng) for _ in "x" * 12)
    ]
    widths = [f["interval"][1] - f["interval"][0] for f in found]
    scatter = np.std([f["value"] for f in found])
    assert 0.5 < np.mean(widths) / (2 * 1.96 * scatter) < 2


def test_noise_costs_precision_and_lost_modes_cost_recall(rng: np.random.Generator) -> None:
    x, y, patient = two(rng)
    x[: N // 2, 0] += 8  # two modes
    y[: N // 2, 0] += 8
    noisy, dropped = y.copy(), y.copy()
    noisy[::3] += 6 * rng.standard_normal((len(noisy[::3]), DIMENSIONS))
    dropped[: N // 2, 0] -= 8
    good, noise, lost = (
        {k: v["value"] for k, v in distances.manifold_figures(x, made, patient, patient).items()}
        for made in (y, noisy, dropped)
    )
    assert min(good["precision"], good["recall"], good["coverage"]) > 0.8
    assert good["density"] == pytest.approx(1, abs=0.25)
    assert noise["precision"] < good["precision"] - 0.2 and noise["density"] < good["density"]
    assert lost["recall"] < 0.6 and lost["coverage"] < 0.6
    assert lost["precision"] > 0.8


def test_every_figure_lies_in_its_interval(rng: np.random.Generator) -> None:
    x, y, patient = two(rng, 100)
    found = distances.compare(x, y, patient, patient, 80)
    assert set(found) == {"frechet", "precision", "recall", "density", "coverage"}
    for figure in found.values():
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]


def test_a_space_is_of_the_training_ecgs_and_as_large_as_the_sets_allow(
    rng: np.random.Generator,
) -> None:
    features = rng.standard_normal((300, 40)) * np.linspace(1, 9, 40)
    features[:, 3] = 2.0  # says nothing
    features[::5, 7] = np.nan  # could not be measured
    space = distances.fit_space(features, 120)
    placed = space(features)
    assert placed.shape == (300, 12)
    assert placed.var(axis=0).sum() == pytest.approx(1, rel=0.01)
    assert np.abs(placed.mean(axis=0)).max() < 0.01


def test_patients_are_drawn_whole(rng: np.random.Generator) -> None:
    patient = np.repeat(np.arange(50).astype(str), 2)
    rows = distances.half_of(patient, rng)
    assert len(rows) == 50 and len(np.unique(patient[rows])) == 25
    assert len(np.unique(patient[distances.by_patient(patient, 20)])) == 10


def test_a_narrow_set_is_less_diverse(rng: np.random.Generator) -> None:
    x, _, patient = two(rng, 100)
    wide, drawn = distances.pairwise(x, patient)
    narrow, _ = distances.pairwise(0.5 * x, patient)
    assert narrow / wide == pytest.approx(0.5)
    assert np.percentile(drawn, 2.5) < wide < np.percentile(drawn, 97.5)
    assert distances.vendi(np.zeros((20, 2)), 1.0) == pytest.approx(1)
    assert distances.vendi(1000.0 * np.arange(20)[:, None], 1.0) == pytest.approx(20)
    assert distances.vendi(0.5 * x, wide) < distances.vendi(x, wide)
