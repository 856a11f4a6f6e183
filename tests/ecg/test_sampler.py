"""The sampler of a card, against a Gaussian prior whose flow is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from ecg.card import Diffusion, FlowMap
from ecg.sampler import SamplerError, course, sample
from ecg.sampling import prior

SPREAD, MEAN = 0.5, 0.3
BY_CALLS = Diffusion(
    sigma_data=SPREAD, sigma_min=0.02, sigma_max=10.0, rho=4.0,
    num_steps=8, guidance_scale=2.5, guidance_interval=(0.05, 3.0),
)  # fmt: skip
MAPPED = BY_CALLS.model_copy(update={"flow_map": FlowMap(n_levels=8, guidance=(1.0, 4.0))})


def spread_at(sigma: np.ndarray | float) -> np.ndarray | float:
    return np.sqrt(SPREAD**2 + sigma**2)


def flow(x: np.ndarray, sigma: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Where the probability flow takes x from one level to another."""
    return MEAN + (x - MEAN) * spread_at(following) / spread_at(sigma)


def exact_map(x: np.ndarray, sigma: np.ndarray, told: np.ndarray) -> np.ndarray:
    """What a perfect flow map says: where the secant through both levels meets 0."""
    sigmas = course(MAPPED, 8, 1.0).sigmas
    following = sigmas[1:][told[:, -8:].argmax(axis=1)][:, None, None]
    sigma = sigma[:, None, None]
    kept = following / sigma
    return (flow(x, sigma, following) - kept * x) / (1 - kept)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8])
def test_a_perfect_flow_map_ends_where_the_flow_does_in_any_number_of_steps(num_steps) -> None:
    x = np.stack([prior(0, row, (2, 50), 10.0) for row in range(3)])
    way = course(MAPPED, num_steps, 2.5)
    assert way.network_calls == num_steps
    got = sample(exact_map, MAPPED, x, np.zeros((3, 4), np.float32), way, 2.5)
    assert np.abs(got - flow(x, np.array(10.0), np.array(0.0))).max() < 1e-4


def test_a_flow_map_is_told_labels_guidance_and_where_to_go() -> None:
    told = []

    def network(x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
        told.append((float(sigma[0]), labels[0].tolist()))
        return x

    x = np.zeros((1, 2, 3), np.float32)
    sample(network, MAPPED, x, np.array([[0.0, 1.0]], np.float32), course(MAPPED, 2, 3.0), 3.0)
    (first, where), (second, then) = told
    assert (first, where) == (10.0, [0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0])
    assert 0.5 < second < 1.5
    assert then == [0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1]


def test_calls_of_a_row_are_counted() -> None:
    assert course(BY_CALLS, 8, 1.0).network_calls == 8
    assert course(BY_CALLS, 8, 2.5).network_calls == 12  # twice at the levels inside the interval
    everywhere = BY_CALLS.model_copy(update={"guidance_interval": (0.0, 80.0)})
    assert course(everywhere, 8, 2.5).network_calls == 16


def test_what_a_flow_map_cannot_is_refused_with_what_it_can() -> None:
    with pytest.raises(SamplerError, match="num_steps of this generator: 1, 2, 4, 8"):
        course(MAPPED, 3, 2.5)
    with pytest.raises(SamplerError, match="guidance_scale of this generator: 1 to 4"):
        course(MAPPED, 2, 4.5)
    course(BY_CALLS, 3, 9.0)
