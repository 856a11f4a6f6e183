"""Measures of generated ECGs, on signals of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from ecg.generated import twelve_leads
from ecg.record import Record
from ecg.store import load_classifier
from tests.conftest import ROOT
from tests.training.heartbeats import ecg
from training.judging import fidelity
from training.shards import CODES


def test_a_shifted_and_scaled_copy_is_found(rng: np.random.Generator) -> None:
    training = rng.standard_normal((5, 8, 200))
    copy = np.roll(3 * training[3] + 0.5, 40, axis=1)
    stranger = rng.standard_normal((8, 200))
    found = fidelity.nearest(np.stack([copy, stranger]), training)
    assert found[0] == pytest.approx(1.0, abs=1e-5)
    assert found[1] < 0.2


def test_a_copy_cut_at_its_ends_is_found(rng: np.random.Generator) -> None:
    """Moved by 60 of 200 samples, with something else in the place of what is lost; and rolled by
    half, so that two halves are left."""
    training = rng.standard_normal((5, 8, 200))
    cut = rng.standard_normal((8, 200))
    cut[:, :140] = training[2][:, 60:]
    halves = np.roll(training[1], 100, axis=1)
    assert (fidelity.nearest(np.stack([cut, halves]), training) > 0.97).all()


def test_the_correlation_is_of_what_both_have_in_common(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 8, 100)).astype(np.float32)
    found = fidelity._correlations(a[None], b[None], 150)[0, 0]
    for shift in (-50, -7, 0, 30, 50):
        x, y = (a[:, shift:], b[:, : 100 - shift]) if shift >= 0 else (a[:, :shift], b[:, -shift:])
        expected = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
        assert found[50 + shift] == pytest.approx(expected, abs=1e-5)


def test_a_copied_beat_is_found_in_another_rhythm(rng: np.random.Generator) -> None:
    training = np.stack([ecg(rng, rate=r, wide=w) for r, w in ((60, 1), (80, 1.5), (90, 2))])
    copy, wider = ecg(rng, rate=75, irregular=0.15), ecg(rng, rate=75, wide=3, p=3, tall=0.5)
    beat = fidelity.nearest_beat(np.stack([copy, wider]), training, 100.0)
    assert beat[0] > 0.98 > 0.95 > beat[1]
    assert fidelity.nearest(copy[None], training)[0] < 0.8, "as a whole it is none"
    assert np.isnan(fidelity.nearest_beat(np.zeros((1, 8, 1000)), training, 100.0)[0])


def test_one_lead_in_common_is_not_a_copy(rng: np.random.Generator) -> None:
    training = rng.standard_normal((1, 8, 200))
    other = rng.standard_normal((1, 8, 200))
    other[0, 0] = training[0, 0]
    assert fidelity.nearest(other, training)[0] < 0.3


def test_limb_leads_that_break_the_laws_are_measured(rng: np.random.Generator) -> None:
    sig = twelve_leads(rng.standard_normal((2, 8, 100)).astype(np.float32))
    assert fidelity.limb_lead_error(sig) < 1e-6
    sig[1, 5, 50] += 0.25
    assert fidelity.limb_lead_error(sig) == pytest.approx(0.25, abs=1e-5)


def test_heart_rates_are_compared_with_those_asked_for(rng: np.random.Generator) -> None:
    beats = np.zeros((3, 1000))
    for row, rate in enumerate((60, 100, 75)):
        beats[row, np.arange(20, 1000, 6000 / rate).astype(int)] = 1
    qrs = signal.windows.gaussian(13, 1.5)
    sig = np.stack([np.tile(np.convolve(b, qrs, "same"), (8, 1)) for b in beats])
    found = fidelity.heart_rates(sig, 100.0, [60, 103, 75])
    assert found["median_error"] < 1 and found["within_5"] == 1 and found["measured_share"] == 1
    assert fidelity.heart_rates(np.zeros((2, 8, 1000)), 100.0, [60, 60])["measured_share"] == 0


def test_the_stored_classifier_judges_labels(records: dict[str, Record]) -> None:
    """Real ECGs whose labels are right, and the same with their labels exchanged."""
    classifier = load_classifier(ROOT / "models_store" / "prednet", "cpu")
    independent = [0, 1, *range(6, 12)]
    sig = np.stack([records[n].sig[independent] for n in ("00009_lr", "00038_lr", "01275_lr")])
    sig = np.concatenate([sig, sig * 1.1, sig * 0.9])
    label = np.zeros((9, 1 + len(CODES)), dtype=np.int8)
    afib = np.arange(9) % 3 == 2
    label[:, 0] = afib
    patient = np.arange(9).astype(str)
    right = fidelity.label_fidelity(classifier, label, patient, sig)["atrial"]["value"]
    label[:, 0] = ~afib
    wrong = fidelity.label_fidelity(classifier, label, patient, sig)["atrial"]["value"]
    assert right == 1.0 and wrong == 0.0
    judged = fidelity.afib_fidelity(classifier, sig[afib], sig[~afib])
    assert judged["value"] == 1.0 and judged["n"] == 9
