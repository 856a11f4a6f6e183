"""Filters against sines and lines, whose answers are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from ecg.waveform import fill_gaps, highpass, resample, wavelet_denoise

FS = [500.0, 360.0, 257.0, 250.0, 50.0]


def sine(hz, fs, duration_s=10.0, phase=0.7):
    return np.sin(2 * np.pi * hz * np.arange(round(duration_s * fs)) / fs + phase)


@pytest.mark.parametrize("fs", FS)
def test_a_resampled_sine_is_the_sine_sampled_at_the_other_fs(fs):
    out = resample(sine(7.0, fs), fs, 100.0)
    within = slice(50, -50)
    np.testing.assert_allclose(out[within], sine(7.0, 100.0)[within], atol=0.003)


def test_what_the_new_fs_cannot_hold_is_removed():
    assert np.abs(resample(sine(75.0, 500.0), 500.0, 100.0)[50:-50]).max() < 0.005


@pytest.mark.parametrize("fs", FS)
def test_an_offset_and_a_drift_do_not_ring_at_the_ends(fs):
    line = 5.0 + 0.1 * np.arange(round(10 * fs)) / fs
    expected = 5.0 + 0.1 * np.arange(1000) / 100
    np.testing.assert_allclose(resample(line, fs, 100.0)[:1000], expected, rtol=1e-3)


@given(fs=st.integers(50, 4000), n_samples=st.integers(250, 3000))
def test_the_resampled_length_is_the_duration_rounded_up(fs, n_samples):
    out = resample(np.zeros((2, n_samples), dtype=np.float32), fs, 100.0)
    assert out.shape == (2, math.ceil(n_samples * 100 / fs))
    assert out.dtype == np.float32


def test_the_same_fs_changes_nothing(rng):
    sig = rng.standard_normal((3, 100))
    assert resample(sig, 100.0, 100.0) is sig


def test_a_short_gap_is_bridged_by_a_line_and_believed():
    sig = np.array([[0.0, 1.0, np.nan, np.nan, np.nan, 5.0, 0.0]])
    filled, missing = fill_gaps(sig, max_gap=3)
    assert filled.tolist() == [[0, 1, 2, 3, 4, 5, 0]]
    assert not missing.any()
    assert np.isnan(sig[0, 2]), "the caller's array is not written to"


def test_a_long_gap_is_bridged_but_not_believed():
    sig = np.array([[1.0, np.nan, np.nan, 4.0, np.nan, 6.0], np.arange(6.0)])
    filled, missing = fill_gaps(sig, max_gap=1)
    assert filled[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert missing.tolist() == [[False, True, True, False, False, False], [False] * 6]


def test_a_gap_at_an_edge_is_held_level():
    sig = np.array([[np.nan, 2.0, 3.0, np.nan, np.nan]])
    filled, missing = fill_gaps(sig, max_gap=1)
    assert filled.tolist() == [[2, 2, 3, 3, 3]]
    assert missing.tolist() == [[False, False, False, True, True]]


def test_a_lead_without_a_sample_is_zero_and_missing():
    filled, missing = fill_gaps(np.array([[np.nan] * 4, [1.0] * 4]), max_gap=10)
    assert filled.tolist() == [[0] * 4, [1] * 4]
    assert missing.tolist() == [[True] * 4, [False] * 4]


def test_the_baseline_goes_and_the_beat_stays():
    beat = sine(10.0, 100.0)
    drift = 3.0 + 2.0 * sine(0.05, 100.0) + 0.5 * np.arange(1000) / 1000
    within = slice(200, -200)
    assert np.abs(highpass(drift, 100.0, 0.5)[within]).max() < 0.02
    np.testing.assert_allclose(highpass(beat, 100.0, 0.5)[within], beat[within], atol=0.003)
    np.testing.assert_allclose(highpass(beat + drift, 100.0, 0.5)[within], beat[within], atol=0.02)


def test_a_signal_shorter_than_the_filter_is_still_filtered():
    assert np.abs(highpass(np.full(100, 3.0), 100.0, 0.5)).max() < 1e-6


def test_ten_seconds_are_filtered_as_any_other_length_is(record, rng):
    """By matrices rather than by the recursion: the same but for rounding."""
    sos = signal.butter(2, 0.5, "highpass", fs=100, output="sos")
    drift = np.cumsum(rng.standard_normal((12, 1000)), axis=1) * 0.03
    for sig in (record.sig, record.sig + drift.astype(np.float32)):
        expected = signal.sosfiltfilt(sos, sig.astype(np.float64), padlen=200)
        assert np.abs(highpass(sig, 100.0, 0.5) - expected).max() < 1e-4


def test_denoising_lowers_the_noise_of_a_real_ecg(record, rng):
    noisy = record.sig + 0.05 * rng.standard_normal(record.sig.shape).astype(np.float32)
    denoised = wavelet_denoise(noisy, "sym4", 4, 0.5)
    before, after = (np.sqrt(np.mean((x - record.sig) ** 2)) for x in (noisy, denoised))
    assert after < 0.9 * before
    assert denoised.dtype == np.float32


@pytest.mark.parametrize("n_samples", [1000, 999, 137])
def test_denoising_of_strength_zero_changes_nothing(record, n_samples):
    sig = record.sig[:, :n_samples]
    np.testing.assert_allclose(wavelet_denoise(sig, "sym4", 4, 0.0), sig, atol=1e-5)


def test_denoising_shrinks_by_donohos_threshold():
    """One level of Haar, by hand: details of +-d / sqrt(2) come down by the threshold."""
    sig = np.array([3.0, 1.0, -2.0, 2.0, 1.0, -1.0, 0.0, 8.0])
    mean, detail = (sig[::2] + sig[1::2]) / 2, (sig[::2] - sig[1::2]) / np.sqrt(2)
    threshold = 0.3 * np.median(np.abs(detail)) / 0.6745 * np.sqrt(2 * np.log(8))
    shrunk = np.sign(detail) * np.maximum(np.abs(detail) - threshold, 0)
    expected = np.stack([mean + shrunk / np.sqrt(2), mean - shrunk / np.sqrt(2)], axis=1).ravel()
    np.testing.assert_allclose(wavelet_denoise(sig, "haar", 1, 0.3), expected, atol=1e-12)
