"""The gate's scores are fitted as said, on what is what it claims; and the report's figures."""

import json

import numpy as np
import pytest
import wfdb
from sklearn.linear_model import LogisticRegression

from ecg.electrodes import SWAPS
from ecg.leads import LEADS, LIMB_FROM_I_II
from ecg.scores import GATE, LIMIT, OF_ECG, OF_LEAD, OF_RECORD, gate
from training.gate import fit_logistic, logit, see, swap
from training.quality import report as gate_report
from training.quality.not_ecg import KINDS, LAYOUTS, as_record
from training.quality.report import Copies, as_in_nstdb, format_212, mean_powers, on_copies
from training.sources import cinc2011


@pytest.fixture
def two_classes(rng):
    y = rng.random(400) < 0.3
    return rng.standard_normal((400, 3)) + 1.2 * y[:, None] * [1, -1, 0], y


def test_the_regression_is_that_of_others(two_classes):
    x, y = two_classes
    found = fit_logistic(x, y, np.ones(len(y)), 1e-3, pairs=False)
    z = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -LIMIT, LIMIT)
    theirs = LogisticRegression(C=1 / (2 * 1e-3 * len(y)), class_weight="balanced", tol=1e-8)
    theirs.fit(z, y)
    np.testing.assert_allclose(logit(found, x), theirs.decision_function(z), atol=0.02)


def test_products_tell_what_no_line_can(rng):
    x = rng.standard_normal((400, 2))
    y = x[:, 0] * x[:, 1] > 0
    right = [
        ((logit(fit_logistic(x, y, np.ones(400), 1e-4, pairs=p), x) > 0) == y).mean()
        for p in (False, True)
    ]
    assert right[0] < 0.7 and right[1] > 0.95


def test_what_is_served_says_what_it_was_made_from():
    found = json.loads(GATE.read_bytes())
    assert found["signs"] == {"lead": [*OF_LEAD], "record": [*OF_RECORD], "ecg": [*OF_ECG]}
    assert {"about", "made", "seed", "data"} <= set(found)
    assert "training.gate fit" in found["about"]
    assert set(gate().swaps) == set(SWAPS)


@pytest.mark.parametrize("name", SWAPS)
def test_exchanging_electrodes_twice_changes_nothing(record, name):
    once = swap(record, name)
    assert np.abs(once.sig - record.sig).max() > 0.1
    np.testing.assert_allclose(swap(once, name).sig, record.sig, atol=2e-3)
    np.testing.assert_array_equal(once.sig[6:], record.sig[6:])


def test_an_exchange_of_the_arms_turns_lead_i_over_and_swaps_avr_and_avl(record):
    swapped = swap(record, "LA-RA").sig
    np.testing.assert_allclose(swapped[0], -record.sig[0], atol=1e-6)
    rows = [LEADS.index(name) for name in ("aVR", "aVL", "aVF")]
    np.testing.assert_allclose(swapped[rows], record.sig[[rows[1], rows[0], rows[2]]], atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_signals_are_reproducible_finite_and_obey_the_limb_lead_laws(kind):
    for k, layout in enumerate(LAYOUTS):
        one, again = (as_record(kind, layout, np.random.default_rng(k)) for _ in range(2))
        np.testing.assert_array_equal(one.sig, again.sig)
        assert np.isfinite(one.sig).all()
        assert one.duration_s == 10
        if len(one.leads) > 1:
            limbs = LIMB_FROM_I_II @ one.sig[:2]
            np.testing.assert_allclose(one.sig[:6], limbs, atol=1e-5 * np.abs(one.sig).max())


def test_signs_are_those_of_each_record_alone(records):
    every = see(records.values())
    for i, record in enumerate(records.values()):
        alone = see([record])
        np.testing.assert_array_equal(every.ecg[i], alone.ecg[0])
        np.testing.assert_array_equal(every.of(np.arange(len(every)) == i).lead, alone.lead)


def test_noise_in_format_212_is_read_as_wfdb_reads_it(tmp_path, rng):
    samples = rng.integers(-2047, 2048, (500, 2))
    wfdb.wrsamp(
        "bw", 360, ["mV"] * 2, ["noise1", "noise2"], d_signal=samples, fmt=["212"] * 2,
        adc_gain=[200.0] * 2, baseline=[0] * 2, write_dir=str(tmp_path),
    )  # fmt: skip
    data = np.frombuffer((tmp_path / "bw.dat").read_bytes(), dtype=np.uint8)
    np.testing.assert_array_equal(format_212(data)[:, :500], samples.T)


def test_powers_are_those_of_a_sine(rng):
    t = np.arange(1000) / 100
    sine, noise = np.sin(2 * np.pi * 5 * t)[None], 0.3 * rng.standard_normal((1, 1000))
    for measure in (mean_powers, as_in_nstdb):  # an eighth of (2 mV)^2 is a sine's power too
        of_sig, of_noise = measure(sine, noise, 100)
        assert of_sig[0] == pytest.approx(0.5, rel=0.02)
        assert of_noise[0] == pytest.approx(0.09, rel=0.1)


def test_rejecting_what_is_noise_raises_the_auroc_and_at_random_it_does_not(rng, monkeypatch):
    monkeypatch.setattr(gate_report, "COVERAGES", (1.0,))
    n = 600
    label, noisy = rng.integers(0, 2, n), rng.random(n) < 0.1
    probability = np.where(noisy, rng.random(n), 0.5 * label + 0.5 * rng.random(n))
    named = {
        "kind": np.array(["a"] * n),
        "patient": np.arange(n),
        "label": label,
        "probability": probability,
        "answered": np.ones(n, dtype=bool),
    }
    good = on_copies(Copies(score=1.0 - noisy, **named), 0.5)["pooled"]["gain"]
    assert good["interval"][0] > 0
    low, high = on_copies(Copies(score=rng.random(n), **named), 0.5)["pooled"]["gain"]["interval"]
    assert low < 0 < high


def test_cinc_2011_is_read_and_split_by_name(tmp_path, record):
    folder = tmp_path / "set-a"
    folder.mkdir()
    names = [f"{1000000 + i}" for i in range(20)]
    for name in names:
        wfdb.wrsamp(
            name, 100, ["mV"] * 12, list(LEADS), p_signal=record.sig.T.astype(float),
            fmt=["16"] * 12, write_dir=str(folder),
        )  # fmt: skip
    (folder / "RECORDS-acceptable").write_text("\n".join(names[:12]) + "\n")
    (folder / "RECORDS-unacceptable").write_text("\n".join(names[12:]) + "\n")
    found = list(cinc2011.load(tmp_path))
    assert [j.name for j in found] == names
    assert [j.acceptable for j in found] == [True] * 12 + [False] * 8
    assert 4 <= sum(j.tuning for j in found) <= 16
    assert found[0].record.leads == LEADS
