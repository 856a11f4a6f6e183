"""A long record by blocks: the same segments as of the whole, in memory that does not grow."""

import tracemalloc

import numpy as np
import pytest
from scipy.signal import resample_poly

from ecg.leads import LEADS
from ecg.prepare import Preparation, _cut_alike, cut, cut_by_blocks, join
from ecg.record import Record, Stored, make_record, make_stored_record

NAMES = ("sig", "lead_mask", "n_valid", "start_s", "end_s")


def an_hour_or_less(record, fs, duration_s, rng):
    """Three real leads over and over, on a slope, with gaps of every length in every place."""
    n = round(fs * duration_s)
    piece = resample_poly(record.sig[[0, 1, 6]].astype(float), round(fs * 100), 10_000, axis=1)
    sig = np.tile(piece, n // piece.shape[1] + 1)[:, :n] + np.linspace(-1, 2, n)
    sig[0, 5000 : 5000 + round(700 * fs)] = np.nan  # over more than a block
    sig[1, : round(13 * fs)] = np.nan
    sig[2, -round(5 * fs) :] = np.nan
    for at in rng.integers(0, n, 200):
        sig[rng.integers(3), at : at + rng.integers(1, round(0.4 * fs))] = np.nan
    return Record(sig.astype(np.float32), fs, ("I", "II", "V1"))


@pytest.mark.parametrize("fs", [62.5, 100.0, 128.0, 250.0, 250.3, 257.0, 360.0, 512.41])
def test_blocks_are_the_whole_record(fs, record, rng):
    long = an_hour_or_less(record, fs, 1873.7, rng)
    (whole,) = _cut_alike([long], Preparation())
    blocks = list(cut_by_blocks(long, Preparation()))
    assert len(blocks) > 2
    joined = join(blocks, long.leads)
    for name in NAMES:
        of_whole, of_blocks = getattr(whole, name), getattr(joined, name)
        np.testing.assert_allclose(of_blocks, of_whole, rtol=0, atol=1e-6, err_msg=name)
    assert joined.quality == whole.quality
    assert {r.code for r in whole.quality.reasons} >= {"gap", "missing_lead"}


def test_a_lead_without_any_sample_is_no_lead_of_any_block(record):
    sig = np.tile(record.sig[:2], 70)
    sig[1] = np.nan
    segments = cut(Record(sig, 100.0, ("I", "II")), Preparation())
    assert segments.lead_mask[:, 0].all() and not segments.lead_mask[:, 1].any()


def test_an_fs_in_no_ratio_of_small_numbers_does_not_run_away(record):
    """200.025 Hz is taken as 200: over an hour the same beats must still be in their segments."""
    fs, n = 200.025, round(3600 * 200.025)
    time = np.arange(n) / fs
    sig = np.interp(time % 10, np.arange(1000) / 100, record.sig[1]).astype(np.float32)
    segments = cut(Record(sig[None], fs, ("II",)), Preparation())
    first, last = segments.sig[0, 1], segments.sig[-1, 1]
    lags = [np.mean((np.roll(last, k) - first)[100:900] ** 2) for k in range(-100, 100)]
    assert abs(int(np.argmin(lags)) - 100) <= 8, "by a block's part at most, and not the hour's 45"


def test_segments_are_those_of_a_record_cut_out(record, rng):
    """Twenty minutes into the record lies what lies there, not what an index says."""
    long = an_hour_or_less(record, 250.0, 1900.0, rng)
    segments = cut(long, Preparation())
    around = Record(long.piece(250 * 1190, 250 * 1220), 250.0, long.leads)
    alone = cut(around, Preparation())
    np.testing.assert_allclose(alone.sig[1], segments.sig[120], atol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_a_stored_record_is_the_converted_one(dtype, record):
    values = np.tile(record.sig, 61) * (1000 if dtype == "int16" else 1)
    units = "uV" if dtype == "int16" else "mV"
    values = np.rint(values).astype(dtype) if dtype == "int16" else values.astype(dtype)
    long = make_record(values, 100, LEADS, units)
    assert isinstance(long.samples, Stored) and long.n_bytes == values.nbytes
    short = make_record(values[:, :1000], 100, LEADS, units)
    np.testing.assert_array_equal(long.piece(0, 1000), short.sig)
    np.testing.assert_array_equal(long.sig[:, 1000:2000], long.piece(1000, 2000))
    assert long.piece(0, 10, slice(3, 4)).tolist() == [long.sig[3, :10].tolist()]


def test_infinite_and_sentinel_samples_are_missing():
    values = np.ones((1, 70_000), np.float32)
    values[0, 5:8] = [np.inf, np.nan, -np.inf]
    assert np.isnan(make_record(values, 100, ["I"], "mV").piece(4, 9)).tolist() == [
        [False, True, True, True, False]
    ]
    stored = Stored.of(np.array([[7, -32768, 9]] * 1, np.int16), [0.5], [3.0], missing=-32768)
    np.testing.assert_array_equal(stored.piece(0, 3), np.float32([[2.0, np.nan, 3.0]]))


def test_a_day_takes_no_more_memory_than_an_hour(record):
    """What is allocated at once while three leads are checked and cut, beyond the samples."""
    hour = np.tile(np.rint(1000 * resample_poly(record.sig[:3], 5, 2, axis=1)).astype("<i2"), 360)
    peaks = []
    for hours in (1, 6):
        sig = np.tile(hour, hours)
        tracemalloc.start()
        long = make_stored_record(Stored.of(sig, [0.001] * 3), 250, ["I", "II", "III"])
        n = sum(len(b.segments.n_valid) for b in cut_by_blocks(long, Preparation()))
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
        assert n == 360 * hours
    assert peaks[1] < 1.02 * peaks[0] + 0.5
    assert max(peaks) < 80
