"""The samplers against a Gaussian prior, whose denoiser and whose flow are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from ecg.sampling import (
    dpm_solver_pp_2m,
    dpm_solver_pp_2m_step,
    guided,
    heun,
    noise_levels,
    prior,
)

SPREAD, MEAN = 0.5, 0.3


def denoise(x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """E[clean | x] for clean ~ N(MEAN, SPREAD^2)."""
    sigma = sigma[:, None, None]
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def exact(x: np.ndarray, sigma_max: float) -> np.ndarray:
    """Where the probability flow takes x from sigma_max to 0."""
    return MEAN + (x - MEAN) * SPREAD / np.sqrt(SPREAD**2 + sigma_max**2)


@pytest.mark.parametrize("sampler", [heun, dpm_solver_pp_2m])
def test_a_sampler_converges_to_the_exact_flow_at_second_order(sampler) -> None:
    x = np.stack([prior(0, row, (2, 50), 80.0) for row in range(3)])
    errors = []
    for num_steps in (32, 64, 128):
        got = sampler(denoise, x, noise_levels(num_steps))
        errors.append(np.abs(got - exact(x, 80.0)).max())
    assert errors[0] < 0.05
    # the last step, from sigma_min, is of first order, but too short to show
    assert errors[0] / errors[1] > 3
    assert errors[1] / errors[2] > 3


def test_dpm_solver_calls_the_network_once_a_step_and_heun_twice() -> None:
    calls = []

    def counting(x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        calls.append(sigma[0])
        return denoise(x, sigma)

    x = prior(0, 0, (1, 2, 5), 80.0)
    dpm_solver_pp_2m(counting, x, noise_levels(10))
    assert len(calls) == 10
    calls.clear()
    heun(counting, x, noise_levels(10))
    assert len(calls) == 19


def test_noise_levels_fall_from_the_highest_to_zero() -> None:
    sigmas = noise_levels(18, 0.002, 80.0, 7.0)
    assert sigmas[0] == pytest.approx(80.0)
    assert sigmas[-2] == pytest.approx(0.002)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()
    assert noise_levels(1).tolist() == [80.0, 0.0]


def test_steps_taken_alone_are_the_samplers_steps() -> None:
    x = start = prior(3, 0, (1, 2, 20), 80.0)
    sigmas, previous = noise_levels(8), None
    for i in range(8):
        denoised = denoise(x, np.full(1, sigmas[i]))
        x = dpm_solver_pp_2m_step(x, denoised, previous, sigmas, i)
        previous = denoised
    assert np.abs(x - dpm_solver_pp_2m(denoise, start, sigmas)).max() < 1e-6


def test_a_rows_noise_is_of_its_seed_and_number_alone() -> None:
    assert np.array_equal(prior(7, 3, (2, 9), 1.0), prior(7, 3, (2, 9), 1.0))
    assert not np.array_equal(prior(7, 3, (2, 9), 1.0), prior(7, 4, (2, 9), 1.0))
    assert not np.array_equal(prior(7, 3, (2, 9), 1.0), prior(8, 3, (2, 9), 1.0))
    many = np.stack([prior(1, row, (16, 128), 1.0) for row in range(64)])
    assert abs(many.mean()) < 0.01
    assert abs(many.std() - 1) < 0.01


def network(x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 without labels, 1 + label with."""
    return np.ones_like(x) + labels[:, :1, None]


def test_guidance_extrapolates_each_row_by_its_own_scale_within_the_interval() -> None:
    sizes = []

    def counting(*given: np.ndarray) -> np.ndarray:
        sizes.append(len(given[0]))
        return network(*given)

    x, labels = np.zeros((5, 2, 3), np.float32), np.ones((5, 1), np.float32)
    sigma = np.array([1.0, 1.0, 1.0, 5.0, 0.1], np.float32)
    scale = np.array([1.0, 1.5, 3.0, 3.0, 3.0])
    denoised = guided(counting, x, sigma, labels, scale, (0.1, 4.0))
    assert denoised[:, 0, 0] == pytest.approx([2.0, 2.5, 4.0, 2.0, 2.0])
    assert sizes == [7]  # rows outside the interval, and those of scale 1, take one place
