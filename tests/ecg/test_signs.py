"""Signs mean the same at any scale, beside any neighbours, in any order; hum and spikes."""

import numpy as np
import pytest
from scipy.signal import resample_poly

from ecg.faults import flat, implausible
from ecg.interference import mains_mv, paced
from ecg.signs import AGREEMENT, LEAD_SIGNS, SCALE_FREE, SEGMENT_SIGNS, signs_of
from ecg.waveform import highpass

FREE = len(SCALE_FREE)


def signs(sig):
    """Of mV [segment, lead, time] at 100 Hz, all leads usable."""
    sig = np.asarray(sig, dtype=np.float32)
    swings = highpass(sig, 100.0, 0.5)
    return signs_of(sig, swings, np.ptp(swings, axis=-1), np.ones(sig.shape[:2], dtype=bool), 100.0)


def lead_sign(found, name):
    return found.lead[..., LEAD_SIGNS.index(name)]


def segment_sign(found, name):
    return found.segment[..., SEGMENT_SIGNS.index(name)]


@pytest.fixture
def many(records):
    return np.stack([r.sig for r in records.values()])


@pytest.mark.parametrize("scale", [1e-3, 0.5, 2, 1000])
def test_signs_of_form_do_not_depend_on_the_scale(many, scale):
    one, other = signs(many), signs(scale * many)
    np.testing.assert_allclose(other.lead[..., :FREE], one.lead[..., :FREE], atol=2e-2)
    np.testing.assert_allclose(other.segment, one.segment, atol=1e-3)
    in_mv = one.lead[..., FREE:] + np.log10(scale)
    np.testing.assert_allclose(other.lead[..., FREE:], in_mv, atol=1e-3)


def test_a_segments_signs_do_not_depend_on_its_neighbours(many, rng):
    noise = rng.standard_normal((2, *many.shape[1:]))
    together = signs(np.concatenate([noise[:1], many, noise[1:]]))
    for i in range(len(many)):
        alone = signs(many[i : i + 1])
        np.testing.assert_array_equal(together.lead[i + 1], alone.lead[0])
        np.testing.assert_array_equal(together.segment[i + 1], alone.segment[0])


def test_a_leads_signs_do_not_depend_on_its_place(many):
    order = [3, 0, 11, 7, 1, 2, 10, 4, 9, 5, 8, 6]
    np.testing.assert_allclose(signs(many[:, order]).lead, signs(many).lead[:, order], atol=1e-3)


def test_beats_agree_and_noise_does_not(many, rng):
    assert lead_sign(signs(many), "agreement").max(axis=1).min() > 0.7
    noise = signs(rng.standard_normal((20, 1, 1000)))
    assert np.abs(lead_sign(noise, "agreement")).max() < 0.2


@pytest.mark.parametrize("bpm", [40, 75, 150])
def test_beats_are_counted(record, bpm):
    """One real beat, repeated."""
    beat = record.sig[1, :1000]
    peak = int(np.abs(np.diff(beat[200:800])).argmax()) + 200
    one = beat[peak - 15 : peak + 20] - beat[peak - 15]
    sig = np.zeros(1000)
    for at in np.arange(20, 960, 6000 / bpm).round().astype(int):
        sig[at : at + len(one)] += one
    sig += 0.002 * np.random.default_rng(0).standard_normal(1000)
    found = signs(sig[None, None])
    assert segment_sign(found, "beats")[0] == pytest.approx(bpm / 60, rel=0.12)
    assert segment_sign(found, "spread")[0] < 0.02


def test_copies_of_one_lead_are_alike_and_real_leads_are_not(many):
    copies = many[:, [1] * 8] * np.linspace(-1, 2, 8)[:, None]
    assert segment_sign(signs(copies), "alike").min() > 0.99
    assert segment_sign(signs(many), "alike").max() < 0.9
    assert (segment_sign(signs(many[:, :1]), "alike") == 1).all()


def test_what_is_silent_or_not_usable_has_finite_signs(many):
    sig = np.concatenate([many, np.zeros_like(many[:1])]).astype(np.float32)
    swings = highpass(sig, 100.0, 0.5)
    usable = np.zeros(sig.shape[:2], dtype=bool)
    usable[0, 3] = True
    found = signs_of(sig, swings, np.ptp(swings, axis=-1), usable, 100.0)
    assert np.isfinite(found.lead).all() and np.isfinite(found.segment).all()
    assert found.lead[0, 3, AGREEMENT] == pytest.approx(signs(many[:1, 3:4]).lead[0, 0, AGREEMENT])


def test_the_quick_looks_give_the_slow_ones_verdicts(many, rng):
    """Of faults: samples picked out may only save work."""
    swings = highpass(many.astype(np.float32), 100.0, 0.5)
    for scale in (0.005, 0.02, 0.05, 0.2, 1, 20, 60):
        low, high = np.quantile(scale * swings, (0.005, 0.995), axis=-1)
        slow = (high - low < 0.05) | (high - low > 20)
        np.testing.assert_array_equal(
            implausible(scale * swings, np.ptp(scale * swings, axis=-1)), slow
        )
    for share in (0.3, 0.45, 0.55, 0.9):
        some = many.copy()
        some[:, ::2, : round(1000 * share)] = 0.1
        windows = some.reshape(*some.shape[:2], 20, 50)
        slow = (np.ptp(windows, axis=-1) < 0.005).mean(axis=-1) >= 0.5
        np.testing.assert_array_equal(flat(some, 100.0), slow)


@pytest.mark.parametrize("hz", [50, 60])
def test_hum_is_measured_in_millivolts(record, hz):
    raw = resample_poly(record.sig, 5, 1, axis=-1)[None].astype(np.float32)
    before = mains_mv(raw, 500.0)
    assert before.max() < 0.01
    hum = 0.2 * np.sin(2 * np.pi * hz * np.arange(5000) / 500)
    np.testing.assert_allclose(mains_mv(raw + hum, 500.0), 0.2 / np.sqrt(2), atol=0.01)


def test_no_hum_can_be_measured_where_it_does_not_fit(record):
    assert not mains_mv(record.sig[None], 100.0).any()


def spiked(record, fs, height=0.8):
    """The recording at fs, with a spike of one sample every 0.8 s, smaller in some leads."""
    raw = resample_poly(record.sig, round(fs / 100), 1, axis=-1)
    sizes = height * np.linspace(0.4, 1, len(raw))
    for at in range(round(0.2 * fs), raw.shape[-1] - 20, round(0.8 * fs)):
        raw[:, at] += sizes
    return raw[None].astype(np.float32)


@pytest.mark.parametrize("fs", [500.0, 1000.0])
def test_spikes_are_found_and_no_qrs_is_taken_for_one(records, fs):
    for record in records.values():
        raw = spiked(record, fs)
        usable = np.ones(raw.shape[:2], dtype=bool)
        assert paced(raw, usable, fs).tolist() == [True]
        assert paced(spiked(record, fs, 0.0), usable, fs).tolist() == [False]
        assert paced(raw, ~usable, fs).tolist() == [False]


def test_spikes_are_not_looked_for_where_they_would_be_lost(record):
    raw = spiked(record, 200.0)
    assert not paced(raw, np.ones(raw.shape[:2], dtype=bool), 200.0).any()
