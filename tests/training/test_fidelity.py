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
from training.judging.novelty import likeness
from training.shards import CODES


def test_a_copied_beat_is_found_in_another_rhythm(rng: np.random.Generator) -> None:
    training = np.stack([ecg(rng, rate=r, wide=w) for r, w in ((60, 1), (80, 1.5), (90, 2))])
    copy, wider = ecg(rng, rate=75, irregular=0.15), ecg(rng, rate=75, wide=3, p=3, tall=0.5)
    beat = fidelity.nearest_beat(np.stack([copy, wider]), training, 100.0)
    assert beat[0] > 0.98 > 0.95 > beat[1]
    assert likeness(copy[None], training, 100.0)[0] < 0.8, "as a whole it is none"
    assert np.isnan(fidelity.nearest_beat(np.zeros((1, 8, 1000)), training, 100.0)[0])


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
