"""Every reason of the gate, made on a real recording; and real recordings pass."""

import numpy as np
import pytest

from ecg.leads import LEADS, LIMB_LEADS
from ecg.prepare import Preparation, cut
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


@pytest.mark.parametrize("code", CHANGES)
def test_a_record_of_bad_leads_alone_is_unusable(record, code):
    quality = quality_of(CHANGES[code](record.sig.copy()[1])[None], ["II"])
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


def test_one_lead_with_beats_vouches_for_the_others(record, rng):
    quality = quality_of([record.sig[1], 0.2 * rng.standard_normal(1000)], ["II", "V1"])
    assert quality.status == "acceptable"


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
