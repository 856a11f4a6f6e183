"""Every reason of the gate, made on a real recording; real ones pass, other signals do not."""

import numpy as np
import pytest
from scipy.signal import resample_poly

from ecg.electrodes import SWAPS
from ecg.leads import LEADS, LIMB_FROM_I_II, LIMB_LEADS
from ecg.prepare import Preparation, cut, cut_all
from ecg.quality import DETAILS, SegmentQuality, summarise
from ecg.record import Record
from tests.conftest import PTB_XL

FS = 100


def segments_of(sig, leads=LEADS, fs=100.0):
    return cut(Record(np.asarray(sig, dtype=np.float32), fs, tuple(leads)), Preparation())


def quality_of(sig, leads=LEADS, fs=100.0):
    return segments_of(sig, leads, fs).quality


def changed(record, lead, change):
    """The recording with one lead's row put through `change`."""
    sig = record.sig.copy()
    row = record.leads.index(lead)
    sig[row] = change(sig[row].copy())
    return sig


def gone_between(start, end):
    def change(row):
        row[start:end] = np.nan
        return row

    return change


CHANGES = {
    "flat_lead": lambda row: np.full_like(row, 0.3),
    "missing_lead": lambda row: np.full_like(row, np.nan),
    "gap": gone_between(300, 330),
    "saturated_lead": lambda row: np.clip(8 * row, -1.1, 1.1),
    "implausible_amplitude": lambda row: 1000 * row,
}


@pytest.mark.parametrize("name", PTB_XL)
def test_a_real_recording_is_acceptable(records, name):
    segments = segments_of(records[name].sig)
    assert segments.quality.status == "acceptable"
    assert segments.quality.reasons == ()
    assert segments.lead_mask.all()


def test_a_real_hand_held_recording_is_acceptable(hand_held):
    assert cut(hand_held, Preparation()).quality.status == "acceptable"


@pytest.mark.parametrize("code", CHANGES)
def test_a_bad_lead_is_named_and_taken_out(record, code):
    segments = segments_of(changed(record, "V3", CHANGES[code]))
    assert segments.quality.status == "poor"
    (reason,) = segments.quality.reasons
    assert (reason.code, reason.leads, reason.detail) == (code, ("V3",), DETAILS[code])
    assert segments.lead_mask.tolist() == [[1, 1, 1, 1, 0, 1, 1, 1]]
    assert not segments.sig[0, 4].any()


@pytest.mark.parametrize("code", sorted(set(CHANGES) - {"implausible_amplitude"}))
def test_a_record_of_bad_leads_alone_is_unusable(record, code):
    quality = quality_of(CHANGES[code](record.sig.copy()[1])[None], ["II"])
    assert quality.status == "unusable"
    assert [reason.code for reason in quality.reasons] == [code]


@pytest.mark.parametrize("factor", [1000, 0.001])
@pytest.mark.parametrize("leads", [LEADS, ("II",)])
def test_an_ecg_of_an_impossible_size_is_in_other_units(records, factor, leads):
    for record in records.values():
        sig = record.sig[[record.leads.index(name) for name in leads]]
        quality = quality_of(factor * sig, leads)
        assert quality.status == "unusable"
        (reason,) = quality.reasons
        assert (reason.code, reason.leads) == ("wrong_units", leads)


def test_noise_of_an_impossible_size_is_not_said_to_be_an_ecg(rng):
    noise = rng.standard_normal((2, 1000))
    for sig, code in ((1000 * noise, "implausible_amplitude"), (0.0005 * noise, "flat_lead")):
        quality = quality_of(sig, ["II", "V1"])
        assert quality.status == "unusable"
        assert [reason.code for reason in quality.reasons] == [code]


def test_a_lead_in_volts_is_implausibly_small(record):
    quality = quality_of(changed(record, "V3", lambda row: 0.013 * row))
    assert [reason.code for reason in quality.reasons] == ["implausible_amplitude"]


def test_a_lead_under_the_noise_of_the_ground_is_flat(record):
    quality = quality_of(changed(record, "V3", lambda row: 0.001 * row))
    assert [reason.code for reason in quality.reasons] == ["flat_lead"]


def test_half_a_segment_must_be_constant_before_the_lead_is_flat(record):
    def constant_for(n_samples):
        def change(row):
            row[:n_samples] = row[0]
            return row

        return change

    assert quality_of(changed(record, "V3", constant_for(450))).status == "acceptable"
    (reason,) = quality_of(changed(record, "V3", constant_for(550))).reasons
    assert reason.code == "flat_lead"


@pytest.mark.parametrize(("n_missing", "status"), [(20, "acceptable"), (21, "poor")])
def test_a_gap_of_a_fifth_of_a_second_is_bridged(record, n_missing, status):
    assert quality_of(changed(record, "V3", gone_between(400, 400 + n_missing))).status == status


@pytest.mark.parametrize(("n_samples", "status"), [(15, "acceptable"), (40, "poor")])
def test_a_few_samples_at_the_largest_value_are_no_saturation(record, n_samples, status):
    def clipped(row):
        row = 3 * row
        return np.minimum(row, np.sort(row)[-n_samples])

    assert quality_of(changed(record, "V3", clipped)).status == status


def test_what_is_often_at_its_extremes_within_2_mv_is_quiet_not_saturated(record):
    sig = changed(record, "V3", lambda row: np.clip(row, -0.3, 0.3))
    assert quality_of(sig).status == "acceptable"


def test_swapped_limb_leads_contradict_the_others(record):
    sig = record.sig.copy()
    sig[[0, 1]] = sig[[1, 0]]
    segments = segments_of(sig)
    (reason,) = segments.quality.reasons
    assert (reason.code, reason.leads) == ("limb_leads_inconsistent", LIMB_LEADS)
    assert segments.lead_mask.tolist() == [[0, 0, 1, 1, 1, 1, 1, 1]]


def test_slightly_inconsistent_limb_leads_are_named_but_used(record):
    sig = changed(record, "aVL", lambda row: 1.5 * row)
    segments = segments_of(sig)
    assert [reason.code for reason in segments.quality.reasons] == ["limb_leads_inconsistent"]
    assert segments.lead_mask.all()


def test_three_limb_leads_are_enough_to_contradict_each_other(record):
    quality = quality_of(record.sig[[1, 0, 2]], ["I", "II", "III"])
    assert [reason.code for reason in quality.reasons] == ["limb_leads_inconsistent"]


def test_two_limb_leads_cannot_contradict_each_other(record):
    assert quality_of(record.sig[[1, 0]], ["I", "II"]).status == "acceptable"


@pytest.mark.parametrize("fs", [250.0, 500.0, 1000.0])
@pytest.mark.parametrize("hz", [0.3, 1.2, 10, 25, 45, 50, 60])
def test_a_sine_or_mains_hum_is_unusable(hz, fs):
    time = np.arange(round(10 * fs)) / fs
    sig = [np.sin(2 * np.pi * hz * time + phase) for phase in (0, 1)]
    assert quality_of(sig, ["II", "V1"], fs).status == "unusable"


def test_a_drifting_baseline_alone_is_unusable(rng):
    drift = np.linspace(-5, 5, 1000) + 0.02 * rng.standard_normal((2, 1000))
    assert quality_of(drift, ["II", "V1"]).status == "unusable"


def test_noise_is_said_to_be_no_ecg(rng):
    (reason,) = quality_of(0.5 * rng.standard_normal((2, 1000)), ["II", "V1"]).reasons
    assert (reason.code, reason.leads) == ("not_an_ecg", ("II", "V1"))


@pytest.mark.parametrize("value", [0.0, 1.0, -300.0])
def test_a_constant_record_is_flat_and_unusable(value):
    quality = quality_of(np.full((2, 1000), value), ["I", "V1"])
    assert quality.status == "unusable"
    assert [reason.code for reason in quality.reasons] == ["flat_lead"]


def test_one_lead_with_beats_vouches_for_the_others_but_noise_is_named(record, rng):
    sig = [record.sig[1], 0.2 * rng.standard_normal(1000)]
    segments = segments_of(sig, ["II", "V1"])
    (reason,) = segments.quality.reasons
    assert (reason.code, reason.leads) == ("muscle_noise", ("V1",))
    assert segments.quality.status == "poor"
    assert segments.usable.all()


def test_a_bad_stretch_is_said_to_be_of_some_segments_only(record):
    sig = np.tile(record.sig, 3)
    sig[6, 1000:2000] = 0.0
    segments = segments_of(sig)
    (reason,) = segments.quality.reasons
    assert reason.leads == ("V1",)
    assert reason.detail == f"{DETAILS['flat_lead']} (1 of 3 segments)"
    assert segments.lead_mask[:, 2].tolist() == [1, 0, 1]
    assert segments.quality.status == "poor"


def test_a_summary_joins_the_leads_of_all_segments_in_the_records_order():
    segments = [
        SegmentQuality(np.array([False, True]), {"gap": ("V1",)}),
        SegmentQuality(np.array([True, False]), {"gap": ("I",), "flat_lead": ("I",)}),
    ]
    quality = summarise(segments, ("I", "V1"))
    assert [(r.code, r.leads) for r in quality.reasons] == [
        ("gap", ("I", "V1")),
        ("flat_lead", ("I",)),
    ]
    assert quality.reasons[0].detail == DETAILS["gap"]
    assert quality.reasons[1].detail.endswith("(1 of 2 segments)")


@pytest.mark.parametrize(("usable", "status"), [(True, "poor"), (False, "unusable")])
def test_a_record_is_unusable_when_no_lead_of_any_segment_is_left(usable, status):
    segments = [
        SegmentQuality(np.array([False]), {"gap": ("I",)}),
        SegmentQuality(np.array([usable]), {}),
    ]
    assert summarise(segments, ("I",)).status == status


def test_no_detail_holds_a_value_of_the_record(record):
    sig = 1000 * record.sig
    assert {r.detail for r in quality_of(sig).reasons} <= set(DETAILS.values())


def with_noise(record, lead, noise):
    return changed(record, lead, lambda row: row + noise)


def test_noise_between_beats_is_named_with_its_lead(record, rng):
    segments = segments_of(with_noise(record, "V3", rng.standard_normal(1000)))
    (reason,) = segments.quality.reasons
    assert (reason.code, reason.leads) == ("muscle_noise", ("V3",))
    assert segments.quality.status == "poor"
    assert segments.lead_mask.all(), "a noisy lead is named, and used"


def test_a_wandering_baseline_is_named_with_its_lead(record):
    wander = 2 * np.sin(2 * np.pi * 0.15 * np.arange(1000) / FS)
    (reason,) = quality_of(with_noise(record, "V3", wander)).reasons
    assert (reason.code, reason.leads) == ("baseline_wander", ("V3",))


def test_hum_is_named_where_the_samples_can_show_it(record):
    raw = resample_poly(record.sig, 5, 1, axis=-1)
    raw[8] += 0.15 * np.sin(2 * np.pi * 50 * np.arange(5000) / 500)
    (reason,) = quality_of(raw, fs=500.0).reasons
    assert (reason.code, reason.leads) == ("mains_noise", ("V3",))


def test_a_pacemakers_spikes_are_noted_and_no_fault(record):
    raw = resample_poly(record.sig, 5, 1, axis=-1)
    heights = np.linspace(0.4, 0.9, 12)
    heights[:6] = LIMB_FROM_I_II @ heights[:2]
    raw[:, 100::400] += heights[:, None]
    quality = quality_of(raw, fs=500.0)
    assert [reason.code for reason in quality.reasons] == ["paced"]
    assert quality.status == "acceptable"


@pytest.mark.parametrize("name", PTB_XL[:3])
@pytest.mark.parametrize("electrodes", SWAPS)
def test_exchanged_limb_electrodes_are_named_and_the_record_answered(records, name, electrodes):
    sig = records[name].sig.copy()
    sig[:6] = LIMB_FROM_I_II @ (SWAPS[electrodes] @ sig[:2])
    segments = segments_of(sig)
    (reason,) = segments.quality.reasons
    assert (reason.code, reason.leads) == ("limb_leads_swapped", LIMB_LEADS)
    assert segments.quality.status == "poor"
    assert segments.lead_mask.all()


def test_the_score_falls_as_noise_rises(records, rng):
    noise = rng.standard_normal((12, 1000))
    noise[:6] = LIMB_FROM_I_II @ noise[:2]
    for record in records.values():
        scores = [quality_of(record.sig + size * noise).score for size in (0, 0.1, 0.3, 0.6)]
        assert scores[0] > 0.5 > scores[2]
        assert scores == sorted(scores, reverse=True)


def test_the_score_is_none_left_of_an_unusable_record_and_a_mean_over_segments(record, rng):
    assert quality_of(np.zeros((2, 1000)), ["I", "V1"]).score == 0
    good, bad = record.sig, record.sig + 0.3 * rng.standard_normal((12, 1000))
    bad[:6] = LIMB_FROM_I_II @ bad[:2]
    apart = [quality_of(sig).score for sig in (good, bad)]
    together = quality_of(np.concatenate([good, bad], axis=1)).score
    assert together == pytest.approx(np.mean(apart), abs=0.05)


def other_signals(rng):
    """Written apart from those that the gate was fitted with (training/quality/not_ecg.py)."""
    t = np.arange(1000) / FS
    beat = t % 0.8
    walk = 0.1 * np.cumsum(rng.standard_normal((2, 1000)), axis=1)
    return {
        "sine": np.sin(2 * np.pi * 1.3 * t + [[0], [1]]),
        "white noise": 0.3 * rng.standard_normal((2, 1000)),
        "random walk": walk,
        "constant and noise": 1 + 0.05 * rng.standard_normal((2, 1000)),
        "square": np.sign(np.sin(2 * np.pi * 1.1 * t)) * [[1], [0.6]],
        "sawtooth": (1.2 * t % 1) * [[1], [0.6]],
        "triangles like beats": np.interp(beat, [0, 0.05, 0.1], [0, 1, 0]) * [[1], [0.6]],
        "triangles like P, QRS and T": np.interp(
            beat,
            [0.05, 0.1, 0.15, 0.19, 0.23, 0.27, 0.31, 0.45, 0.55, 0.65],
            [0, 0.15, 0, 0, 1, -0.2, 0, 0, 0.3, 0],
        )
        * [[1], [0.6]],
        "pulses": np.exp(-(((beat - 0.3) / 0.1) ** 2)) * [[1], [0.6]],
        "breath": np.sin(2 * np.pi * 0.25 * t) * [[1], [0.6]]
        + 0.01 * rng.standard_normal((2, 1000)),
        "a swelling tone": np.sin(2 * np.pi * 9 * t) * np.sin(2 * np.pi * 0.6 * t) * [[1], [0.6]],
        "a chirp": np.sin(2 * np.pi * (0.5 + t) * t) * [[1], [0.6]],
    }


@pytest.mark.parametrize("kind", other_signals(np.random.default_rng(0)))
def test_what_is_no_ecg_abstains_with_consistent_limb_leads_or_one_lead_alone(kind):
    for seed in range(3):
        i_ii = other_signals(np.random.default_rng(seed))[kind]
        for sig, leads in (
            (LIMB_FROM_I_II @ i_ii, LIMB_LEADS),
            (i_ii[:1], ("II",)),
            (i_ii[:1], ("V1",)),
            (np.concatenate([LIMB_FROM_I_II @ i_ii, [i_ii[0]] * 6]), LEADS),
        ):
            quality = quality_of(sig, leads)
            assert quality.status == "unusable", (leads, quality)


def test_verdicts_depend_on_no_neighbour(records, rng):
    noise = Record(rng.standard_normal((12, 1000)).astype(np.float32), 100.0, LEADS)
    every = [noise, *records.values(), noise]
    together = cut_all(every, Preparation())
    assert [s.quality for s in together] == [cut(r, Preparation()).quality for r in every]


@pytest.mark.parametrize("name", PTB_XL)
@pytest.mark.parametrize("scale", [0.6, 1.5])
def test_verdicts_do_not_depend_on_the_gain_or_the_order_of_leads(records, name, scale):
    record, order = records[name], [7, 0, 4, 11, 1, 2, 10, 3, 9, 5, 8, 6]
    leads = [LEADS[i] for i in order]
    assert quality_of(record.sig[order], leads) == quality_of(record.sig)
    assert quality_of(scale * record.sig).status == "acceptable"
