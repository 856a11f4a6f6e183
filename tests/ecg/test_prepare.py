"""Cutting and conditioning: what lies where, what is masked, and that neighbours do not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg.leads import INDEPENDENT_LEADS, LEADS
from ecg.prepare import (
    Denoising,
    Preparation,
    condition,
    count_segments,
    cut,
    cut_all,
    sample_mask,
)
from ecg.record import Record

DENOISED = Preparation(denoising=Denoising("sym4", 4, 0.5), scale_mv=0.5)


def lasting(record, duration_s, leads=LEADS):
    """The recording, repeated until it is long enough."""
    n_samples = round(duration_s * record.fs)
    rows = [record.leads.index(name) for name in leads]
    sig = np.tile(record.sig[rows], -(-n_samples // record.n_samples))[:, :n_samples]
    return Record(np.ascontiguousarray(sig), record.fs, tuple(leads))


@pytest.mark.parametrize(
    ("duration_s", "pieces"),
    [
        (5.0, [(0, 5)]),
        (10.0, [(0, 10)]),
        (10.99, [(0, 10)]),
        (11.0, [(0, 10), (10, 11)]),
        (20.0, [(0, 10), (10, 20)]),
        (27.5, [(0, 10), (10, 20), (20, 27.5)]),
    ],
)
def test_a_record_is_cut_every_ten_seconds_and_a_last_second_is_left_out(
    record, duration_s, pieces
):
    long = lasting(record, duration_s)
    segments = cut(long, Preparation())
    assert list(zip(segments.start_s, segments.end_s, strict=True)) == pieces
    assert segments.n_valid.tolist() == [round(100 * (end - start)) for start, end in pieces]
    rows = [LEADS.index(name) for name in INDEPENDENT_LEADS]
    for i, (start, _) in enumerate(pieces):
        n = segments.n_valid[i]
        piece = long.sig[rows, round(100 * start) :][:, :n]
        np.testing.assert_array_equal(segments.sig[i, :, :n], piece)
        assert not segments.sig[i, :, n:].any(), "padding is zero, nothing is stretched"
    assert segments.lead_mask.all() and segments.usable.all()


@pytest.mark.parametrize("fs", [250.0, 257.0, 300.0, 360.0])
def test_segments_of_any_fs_begin_at_the_same_seconds(hand_held, fs):
    sig = hand_held.sig[:, : round(24.3 * fs)]
    segments = cut(Record(sig, fs, ("I",)), Preparation())
    assert segments.start_s.tolist() == [0, 10, 20]
    assert segments.end_s.tolist() == [10, 20, pytest.approx(24.3, abs=0.01)]


def test_no_sample_is_made_up_behind_the_end(record):
    """3,121 samples at 250 Hz are 1,248.4 at 100 Hz."""
    sig = np.tile(record.sig, 4)[:, :3121]
    assert cut(Record(sig, 250.0, LEADS), Preparation()).n_valid.tolist() == [1000, 248]


@pytest.mark.parametrize(
    ("n_samples", "fs", "n_segments"),
    [(4999, 250.0, 2), (14_999, 500.0, 3), (249_999, 250.0, 100), (39_999, 99.999, 40)],
)
def test_a_sample_less_than_whole_segments_is_no_trouble(n_samples, fs, n_segments, record):
    """Back at the record's own fs, the last segment's end may round to behind its last sample."""
    sig = np.tile(record.sig[:1], n_samples // 1000 + 1)[:, :n_samples]
    segments = cut(Record(sig, fs, ("I",)), Preparation())
    assert (
        segments.sig.shape[0]
        == n_segments
        == count_segments(Record(sig, fs, ("I",)), Preparation())
    )
    assert segments.n_valid[-1] >= 999


def test_the_card_chooses_fs_and_length(record):
    segments = cut(record, Preparation(fs=50.0, n_samples=200))
    assert segments.sig.shape == (3, 8, 200)
    assert segments.end_s.tolist() == [4, 8, 10]


def test_a_bad_limb_lead_is_derived_from_the_others(record):
    sig = record.sig.copy()
    sig[0] = 0.0
    segments = cut(Record(sig, record.fs, LEADS), Preparation())
    assert segments.lead_mask.all()
    np.testing.assert_allclose(segments.sig[0, 0], record.sig[0], atol=0.003)  # its own rounding
    assert [(r.code, r.leads) for r in segments.quality.reasons] == [("flat_lead", ("I",))]


def test_a_bad_chest_lead_is_masked_in_the_segments_where_it_is_bad(record):
    long = lasting(record, 20.0)
    long.sig[LEADS.index("V2"), 1200:1300] = np.nan
    segments = cut(long, Preparation())
    v2 = INDEPENDENT_LEADS.index("V2")
    assert segments.lead_mask[:, v2].tolist() == [1, 0]
    assert not segments.sig[1, v2].any()
    assert segments.lead_mask[1].sum() == 7


def test_a_segment_without_a_lead_is_not_usable(record):
    long = lasting(record, 20.0)
    long.sig[:, 1000:] = 0.0
    segments = cut(long, Preparation())
    assert segments.usable.tolist() == [True, False]
    assert not segments.sig[1].any()


def test_leads_that_were_not_sent_are_masked(record):
    segments = cut(lasting(record, 10.0, ("V5", "II")), Preparation())
    assert segments.lead_mask.tolist() == [[0, 1, 0, 0, 0, 0, 1, 0]]


def test_a_bridged_gap_leaves_no_nan(record):
    sig = record.sig.copy()
    sig[3, 100:115] = np.nan
    segments = cut(Record(sig, record.fs, LEADS), Preparation())
    assert np.isfinite(segments.sig).all() and segments.lead_mask.all()


@pytest.mark.parametrize("preparation", [Preparation(), DENOISED])
@given(n_valid=st.lists(st.integers(100, 1000), min_size=1, max_size=5))
def test_a_batch_is_conditioned_like_each_of_its_segments_alone(record, preparation, n_valid):
    n_valid = np.array([*n_valid, 1000])
    batch = np.zeros((len(n_valid), 8, 1000), dtype=np.float32)
    for i, n in enumerate(n_valid):
        batch[i, :, :n] = (1 + i) * record.sig[:8, :n]
    together = condition(batch, n_valid, preparation)
    assert together.dtype == np.float32
    for i, n in enumerate(n_valid):
        alone = condition(batch[i : i + 1], n_valid[i : i + 1], preparation)[0]
        np.testing.assert_allclose(together[i], alone, atol=1e-6)
        assert not together[i, :, n:].any()


def test_padding_says_nothing_about_the_signal_before_it(record):
    """Five seconds give the same input whether or not zeros follow them."""
    padded = np.zeros((1, 8, 1000), dtype=np.float32)
    padded[0, :, :500] = record.sig[:8, :500]
    short = Preparation(n_samples=500)
    alone = condition(padded[:, :, :500], np.array([500]), short)
    np.testing.assert_array_equal(
        condition(padded, np.array([500]), Preparation())[:, :, :500], alone
    )


def test_a_missing_lead_stays_zero():
    sig = np.zeros((1, 8, 1000), dtype=np.float32)
    assert not condition(sig, np.array([1000]), DENOISED).any()


def test_the_scale_is_in_millivolts_a_unit(record):
    sig, n_valid = record.sig[None, :8], np.array([1000])
    plain = Preparation(highpass_hz=None)
    np.testing.assert_array_equal(condition(sig, n_valid, plain), sig)
    halved = Preparation(highpass_hz=None, scale_mv=0.5)
    np.testing.assert_allclose(condition(sig, n_valid, halved), 2 * sig, rtol=1e-6)


def test_the_baseline_is_removed_where_the_card_says_so(record):
    sig = record.sig[None, :8] + 3.0
    n_valid = np.array([1000])
    assert abs(condition(sig, n_valid, Preparation())[..., 200:800].mean()) < 0.05
    assert condition(sig, n_valid, Preparation(highpass_hz=None)).mean() > 2.9


def test_conditioning_leaves_the_callers_array_alone(record):
    sig = record.sig[None, :8].copy()
    condition(sig, np.array([700]), DENOISED)
    np.testing.assert_array_equal(sig, record.sig[None, :8])


def test_the_sample_mask_ends_with_the_signal():
    mask = sample_mask(np.array([2, 4, 0]), 4)
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert mask.dtype == np.float32


def test_records_cut_together_are_as_when_cut_alone(records, hand_held, rng):
    broken = next(iter(records.values()))
    sig = broken.sig.copy()
    sig[3, 200:300] = np.nan  # a gap, a flat lead, a clipped one, swapped limb leads, noise
    sig[7] = 0.1
    sig[8] = np.clip(20 * sig[8], -1.5, 1.5)
    swapped = broken.sig[[2, 1, 0, *range(3, 12)]]
    noise = rng.standard_normal(sig.shape).astype(np.float32)
    odd = [Record(s, 100.0, LEADS) for s in (sig, swapped, noise)]
    odd += [Record(broken.sig[:, :700], 100.0, LEADS), Record(broken.sig, 257.0, LEADS[::-1])]
    many = [*records.values(), *odd, lasting(broken, 27.5), hand_held, lasting(broken, 700.0)]
    seen = set()
    for alone, together in zip(
        map(lambda r: cut(r, Preparation()), many), cut_all(many, Preparation()), strict=True
    ):
        for name in ("sig", "lead_mask", "n_valid", "start_s", "end_s"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))
        assert alone.quality == together.quality
        seen |= {reason.code for reason in alone.quality.reasons}
    assert len(seen) >= 5, "the check means little where nothing is wrong"


@given(st.integers(500, 9000), st.sampled_from([50.0, 100.0, 257.0, 500.0]))
def test_segments_are_counted_before_they_are_cut(n_samples, fs):
    record = Record(np.zeros((1, max(n_samples, round(5 * fs))), np.float32), fs, ("I",))
    assert count_segments(record, Preparation()) == len(cut(record, Preparation()).n_valid)


def test_a_part_of_the_segments_is_those_segments(record):
    whole = cut(lasting(record, 57.0), Preparation())
    parts = [whole.part(i, i + 4) for i in range(0, 6, 4)]
    assert [len(part.n_valid) for part in parts] == [4, 2]
    for name in ("sig", "lead_mask", "n_valid", "start_s", "end_s"):
        together = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), together)
    assert all(part.quality == whole.quality for part in parts)
