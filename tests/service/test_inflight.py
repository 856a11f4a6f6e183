"""In-flight batching, with a denoiser whose answer is known: that of a Gaussian prior."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ecg.sampling import dpm_solver_pp_2m, noise_levels, prior
from service.batcher import ModelFailed, QueueFull
from service.inflight import InFlight, Order

INTERVAL = (0.1, 20.0)
DIFFUSION = SimpleNamespace(
    sigma_min=0.002, sigma_max=80.0, rho=7.0, guidance_interval=INTERVAL, flow_map=None
)
LATENTS = (2, 6)


class Generator:
    """Labels shift the mean; calls are noted, and held while the gate is shut."""

    card = SimpleNamespace(name="test", latents=LATENTS, diffusion=DIFFUSION)

    def __init__(self) -> None:
        self.places: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def denoise(self, x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
        self.gate.wait(10)
        self.places.append(len(x))
        if self.broken:
            raise RuntimeError
        sigma, mean = sigma[:, None, None], labels[:, :1, None]
        return ((0.25 * x + sigma**2 * mean) / (0.25 + sigma**2)).astype(np.float32)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents


def inflight(generator: Generator, **changes: int) -> InFlight:
    options = {"threads": 1, "max_places": 8, "max_waiting": 256} | changes
    return InFlight(generator, **options)  # type: ignore[arg-type]


def order(n: int = 1, **changes: Any) -> Order:
    given = {"labels": np.ones(1, np.float32), "seed": 1, "guidance_scale": 1.0, "num_steps": 5}
    return Order(n=n, **(given | changes))


def expected(o: Order) -> np.ndarray:
    """What the sampler alone makes of the order, row by row."""
    g, sigmas = Generator(), noise_levels(o.num_steps)

    def denoise(x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        labelled = g.denoise(x, sigma, np.tile(o.labels, (len(x), 1)))
        if not INTERVAL[0] < sigma[0] <= INTERVAL[1]:
            return labelled
        free = g.denoise(x, sigma, np.zeros((len(x), 1), np.float32))
        return free + np.float32(o.guidance_scale) * (labelled - free)

    starts = [prior(o.seed, i, LATENTS, sigmas[0]) for i in range(o.n)]
    return np.concatenate([dpm_solver_pp_2m(denoise, x[None], sigmas) for x in starts])


def test_orders_of_all_kinds_are_served_as_if_alone() -> None:
    orders = [
        order(1 + i % 4, seed=i, num_steps=2 + i % 5, guidance_scale=1 + 0.5 * (i % 3))
        for i in range(20)
    ]

    async def all_at_once() -> list[np.ndarray]:
        serve = inflight(Generator(), threads=2)
        return await asyncio.gather(*(serve(o) for o in orders))

    for o, got in zip(orders, asyncio.run(all_at_once()), strict=True):
        assert np.abs(got - expected(o)).max() < 1e-5


def test_a_new_order_joins_at_the_next_call() -> None:
    async def test() -> None:
        generator = Generator()
        serve = inflight(generator)
        generator.gate.clear()
        first = asyncio.create_task(serve(order(2, num_steps=6)))
        await asyncio.sleep(0.05)  # its first call has begun
        second = asyncio.create_task(serve(order(3, num_steps=2)))
        await asyncio.sleep(0.05)
        generator.gate.set()
        await asyncio.gather(first, second)
        assert generator.places == [2, 5, 5, 2, 2, 2]

    asyncio.run(test())


def test_a_row_takes_two_places_only_where_it_is_guided() -> None:
    generator = Generator()
    asyncio.run(inflight(generator)(order(3, num_steps=5, guidance_scale=2.0)))
    sigmas = noise_levels(5)[:-1]
    assert generator.places == [6 if INTERVAL[0] < s <= INTERVAL[1] else 3 for s in sigmas]


def test_a_cancelled_order_leaves_at_the_next_call() -> None:
    async def test() -> None:
        generator = Generator()
        serve = inflight(generator)
        generator.gate.clear()
        kept = asyncio.create_task(serve(order(1, num_steps=4)))
        gone = asyncio.create_task(serve(order(4, num_steps=64)))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0.05)
        generator.gate.set()
        await kept
        assert sum(generator.places) <= 1 + 4 + 4  # at most one call more with its rows
        assert np.abs(await serve(order(1)) - expected(order(1))).max() < 1e-5

    asyncio.run(test())


def test_a_full_house_refuses_and_a_broken_network_fails_its_rows_only_once() -> None:
    async def test() -> None:
        generator = Generator()
        serve = inflight(generator, max_waiting=4)
        generator.gate.clear()
        waiting = asyncio.create_task(serve(order(4)))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFull):
            await serve(order(1))
        generator.broken = True
        generator.gate.set()
        with pytest.raises(ModelFailed):
            await waiting
        generator.broken = False
        assert np.abs(await serve(order(2)) - expected(order(2))).max() < 1e-5

    asyncio.run(test())
