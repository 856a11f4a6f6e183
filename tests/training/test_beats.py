"""What is measured of ECGs, on ones of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from ecg.record import Record
from tests.training.heartbeats import FS, ecg, ecgs
from training.beats import MEASURES, irregularity, measure, measure_all, median_beat
from training.metrics import auroc

INDEPENDENT = [0, 1, *range(6, 12)]


def column(sig: np.ndarray, name: str) -> np.ndarray:
    return measure_all(sig, FS)[:, MEASURES.index(name)]


def test_rates_are_found(rng: np.random.Generator) -> None:
    for rate in (50, 75, 120):
        found = measure(ecg(rng, rate=rate, irregular=0), FS)
        assert found["heart_rate"] == pytest.approx(rate, rel=0.02)


def test_atrial_fibrillation_is_told_from_sinus_rhythm_by_rr_and_p(
    rng: np.random.Generator,
) -> None:
    sig = np.concatenate([ecgs(rng, 15, irregular=0.2, p=0), ecgs(rng, 15)])
    is_afib = np.repeat([1, 0], 15)
    assert auroc(is_afib, column(sig, "rr_irregularity")) > 0.95
    assert auroc(is_afib, -column(sig, "p_wave_uv")) > 0.95
    assert np.isnan(column(sig[:15], "pr_ms")).mean() > 0.5, "no PR without a P wave"


def test_one_early_beat_is_no_irregular_rhythm() -> None:
    bigeminy_once = np.array([0.8, 0.8, 0.8, 0.5, 1.1, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8])
    assert irregularity(bigeminy_once) < 0.12 < irregularity(np.array([0.6, 1.0, 0.7, 0.9] * 3))


def test_a_late_qrs_lengthens_pr_by_as_much(rng: np.random.Generator) -> None:
    normal, late = (
        np.nanmedian(column(np.stack([ecg(rng, 60, pr=pr) for _ in range(5)]), "pr_ms"))
        for pr in (0, 0.06)
    )
    assert late - normal == pytest.approx(60, abs=12)


def test_a_wide_qrs_is_measured_wide(rng: np.random.Generator) -> None:
    normal, wide = (
        np.median(column(np.stack([ecg(rng, wide=w) for _ in range(5)]), "qrs_ms"))
        for w in (1, 1.6)
    )
    assert wide / normal == pytest.approx(1.6, rel=0.2)


def test_amplitudes_are_those_of_the_leads(rng: np.random.Generator) -> None:
    found = measure(ecg(rng, irregular=0, noise_mv=0.002), FS)
    assert found["R_II_mv"] == pytest.approx(1.0, abs=0.12)
    assert found["R_V4_mv"] / found["R_II_mv"] == pytest.approx(1.2, abs=0.05)
    assert found["S_V1_mv"] == pytest.approx(-0.7, abs=0.1), "a negative lead's QRS points down"
    assert found["T_II_mv"] == pytest.approx(0.3, abs=0.06)
    twice = measure(2 * ecg(rng, irregular=0, noise_mv=0.002), FS)
    assert twice["sokolow_mv"] == pytest.approx(2 * found["sokolow_mv"], rel=0.05)


def test_noise_shows_in_the_bands_where_it_is(rng: np.random.Generator) -> None:
    clean = ecg(rng, noise_mv=0)
    noisy = clean + 0.05 * np.sin(2 * np.pi * 45 * np.arange(1000) / FS)
    a, b = measure(clean, FS), measure(noisy, FS)
    assert b["power_40_50_db"] - a["power_40_50_db"] > 20
    assert abs(b["power_0.5_5_db"] - a["power_0.5_5_db"]) < 0.1


def test_nothing_is_measured_where_there_are_no_beats() -> None:
    found = measure(np.zeros((8, 1000)), FS)
    assert median_beat(np.zeros((8, 1000)), FS) is None
    assert set(found) == set(MEASURES) and np.isnan(found["qrs_ms"])


def test_real_records_are_measured_as_they_are_labelled(records: dict[str, Record]) -> None:
    """Two normal records, and one in atrial fibrillation (tests/data/README.md)."""
    found = {
        name: measure(records[name].sig[INDEPENDENT], FS)
        for name in ("00009_lr", "00038_lr", "01275_lr")
    }
    afib = found.pop("01275_lr")
    for normal in found.values():
        assert 60 < normal["qrs_ms"] < 110 and 110 < normal["pr_ms"] < 200
        assert 340 < normal["qtc_ms"] < 450
        assert normal["rr_irregularity"] < afib["rr_irregularity"]
