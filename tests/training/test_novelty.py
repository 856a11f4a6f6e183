"""Copies are found however they are disguised, and strangers are none."""

from __future__ import annotations

import numpy as np
import pytest

from training.judging.novelty import nearest

FS = 100.0
SHAPES = ((-0.16, 0.03), (0, 0.015), (0.25, 0.06))  # s from the beat, s wide


@pytest.fixture
def ecgs(rng: np.random.Generator) -> np.ndarray:
    """Twenty of regular beats, each of its own rate, shape and axis, mV [20, 8, 1000]."""
    time = np.arange(1000) / FS
    found = []
    for _ in range(20):
        at = np.arange(rng.uniform(0, 1), 10, rng.uniform(0.5, 1.2))
        at = at + 0.03 * rng.standard_normal(len(at))
        waves = [np.zeros(1000), np.zeros(1000), np.zeros(1000)]
        for wave, (delay, width) in zip(waves, SHAPES, strict=True):
            for beat in at:
                wave += np.exp(-(((time - beat - delay) / width) ** 2))
        axes = rng.standard_normal((8, 3)) * (0.15, 1, 0.3)
        found.append(axes @ np.array(waves))
    return np.array(found)


def shifted(sig: np.ndarray, by: int) -> np.ndarray:
    """Begun earlier: what comes in is another recording."""
    return np.concatenate([sig[::-1, :, -by:], sig[:, :, :-by]], axis=2)


ALL = np.ones((20, 8))


@pytest.mark.parametrize("gain", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("by", [1, 130, 400])
def test_a_shifted_and_scaled_copy_is_near(ecgs: np.ndarray, gain: float, by: int) -> None:
    found = nearest(gain * shifted(ecgs, by), ecgs, ALL, FS)
    assert np.median(found.distance) < 0.01
    assert (found.row == np.arange(20)).mean() > 0.85  # of the rest, half lies in what was cut off


def test_distance_is_0_for_the_same_and_grows_with_noise(ecgs: np.ndarray, rng) -> None:
    noise = rng.standard_normal(ecgs.shape)
    found = [nearest(ecgs + mv * noise, ecgs, ALL, FS) for mv in (0, 0.05, 0.2, 0.5)]
    assert found[0].distance.max() < 0.01
    medians = [np.median(f.distance) for f in found]
    assert medians == sorted(medians) and medians[1] < 0.05 < medians[3]
    assert all((f.row == np.arange(20)).all() for f in found[:3])


def test_strangers_are_far(ecgs: np.ndarray) -> None:
    strangers = nearest(ecgs[:10], ecgs[10:], ALL[10:], FS).distance
    copies = nearest(shifted(ecgs[10:], 200), ecgs[10:], ALL[10:], FS).distance
    assert strangers.min() > 10 * np.median(copies)


def test_an_offset_and_a_slow_wander_hide_nothing(ecgs: np.ndarray) -> None:
    wander = 2 + np.sin(2 * np.pi * 0.2 * np.arange(1000) / FS)
    assert nearest(ecgs + wander, ecgs, ALL, FS).distance.max() < 5e-3


def test_it_is_what_the_definition_says(rng: np.random.Generator) -> None:
    """Against the correlation at each shift, one by one."""
    spectra = rng.standard_normal((2, 3, 8, 251)) + 1j * rng.standard_normal((2, 3, 8, 251))
    spectra[..., :7] = 0  # below 0.5 Hz
    a, b = np.fft.irfft(spectra, 500)
    found = nearest(a, b, np.ones((3, 8)), 40.0)
    expected = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        for s in range(-250, 251):
            x, y = a[i][:, max(s, 0) : 500 + min(s, 0)], b[j][:, max(-s, 0) : 500 - max(s, 0)]
            if min((x**2).sum() / (a[i] ** 2).sum(), (y**2).sum() / (b[j] ** 2).sum()) >= 0.5:
                r = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
                expected[i, j] = max(expected[i, j], r)
    np.testing.assert_allclose(found.distance, 1 - expected.max(axis=1), atol=1e-4)
    np.testing.assert_array_equal(found.row, expected.argmax(axis=1))


def test_a_record_of_few_leads_is_compared_on_those(ecgs: np.ndarray, rng) -> None:
    lead_mask = np.ones((20, 8))
    lead_mask[3:6, 1:] = 0
    others = ecgs * lead_mask[:, :, None]
    found = nearest(ecgs, others, lead_mask, FS)
    assert (found.row == np.arange(20)).all() and found.distance.max() < 0.01


def test_a_flat_or_padded_ecg_is_like_nothing(ecgs: np.ndarray) -> None:
    others = np.zeros((2, 8, 1000))
    others[1, :, :100] = ecgs[0, :, 300:400]
    found = nearest(np.concatenate([ecgs, np.zeros((1, 8, 1000))]), others, np.ones((2, 8)), FS)
    assert np.isfinite(found.distance).all()
    assert found.distance[-1] == 1 and found.distance.min() > 0.2
