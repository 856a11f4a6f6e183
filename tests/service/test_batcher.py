"""The batcher, with a model of one line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from service.batcher import Batcher, ModelFailed, QueueFull

Array = np.ndarray


class Model:
    """Answers each segment with its first sample, holds until released, and notes its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails_on: float | None = None

    def __call__(self, sig: Array, lead_mask: Array, n_valid: Array) -> Array:
        assert len(sig) == len(lead_mask) == len(n_valid)
        self.gate.wait(10)
        self.sizes.append(len(sig))
        out = sig[:, 0, :1].copy()
        if self.fails_on is not None and (out == self.fails_on).any():
            raise RuntimeError
        return out


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Callable[..., Batcher]:
    def make(**changes: float) -> Batcher:
        options = {"threads": 1, "max_batch": 8, "max_wait_s": 0.01, "max_queue": 100} | changes
        return Batcher("test", model, **options)  # type: ignore[arg-type]

    return make


def rows(*values: float) -> tuple[Array, Array, Array]:
    sig = np.zeros((len(values), 8, 10), dtype=np.float32)
    sig[:, 0, 0] = values
    return sig, np.ones((len(values), 8), np.float32), np.full(len(values), 10)


async def ask(batcher: Batcher, *values: float, timeout: float = 10) -> list[float]:
    deadline = asyncio.get_running_loop().time() + timeout
    return (await batcher(*rows(*values), deadline=deadline))[:, 0].tolist()


def run(test: Callable[[], object]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_each_caller_gets_its_own_rows(batcher: Callable[..., Batcher]) -> None:
    async def test() -> None:
        b = batcher(threads=2, max_queue=1000)
        asked = [[float(100 * i + j) for j in range(i % 5 + 1)] for i in range(50)]
        assert await asyncio.gather(*(ask(b, *values) for values in asked)) == asked

    run(test)


def test_what_waits_shares_a_run(batcher: Callable[..., Batcher], model: Model) -> None:
    async def test() -> None:
        b = batcher()
        model.gate.clear()
        first = asyncio.create_task(ask(b, 0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(ask(b, i)) for i in range(1, 13)]
        await asyncio.sleep(0.05)
        model.gate.set()
        await asyncio.gather(first, *others)
        assert model.sizes == [1, 8, 4]

    run(test)


def test_a_large_request_is_split_by_segments(
    batcher: Callable[..., Batcher], model: Model
) -> None:
    async def test() -> None:
        values = [float(i) for i in range(21)]
        assert await ask(batcher(threads=2), *values) == values
        assert sorted(model.sizes) == [5, 8, 8]

    run(test)


def test_a_failing_request_fails_alone(batcher: Callable[..., Batcher], model: Model) -> None:
    async def test() -> None:
        b = batcher()
        model.fails_on = 3.0
        model.gate.clear()
        tasks = [asyncio.create_task(ask(b, i)) for i in range(6)]
        await asyncio.sleep(0.05)
        model.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(3), ModelFailed)
        assert results == [[0.0], [1.0], [2.0], [4.0], [5.0]]

    run(test)


def test_an_answer_that_is_not_finite_fails_its_own_request(
    batcher: Callable[..., Batcher],
) -> None:
    async def test() -> None:
        b = batcher()
        results = await asyncio.gather(ask(b, 1), ask(b, np.nan), return_exceptions=True)
        assert results[0] == [1.0]
        assert isinstance(results[1], ModelFailed)

    run(test)


def test_cancelled_and_late_requests_leave_the_queue_unrun(
    batcher: Callable[..., Batcher], model: Model
) -> None:
    async def test() -> None:
        b = batcher()
        model.gate.clear()
        first = asyncio.create_task(ask(b, 0))
        await asyncio.sleep(0.02)
        cancelled = asyncio.create_task(ask(b, 1, 2, 3))
        late = asyncio.create_task(ask(b, 4, timeout=0.05))
        kept = asyncio.create_task(ask(b, 5))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        with pytest.raises(TimeoutError):
            await late
        model.gate.set()
        assert await first == [0.0]
        assert await kept == [5.0]
        assert model.sizes == [1, 1]

    run(test)


def test_a_full_queue_refuses_and_says_when_to_come_again(
    batcher: Callable[..., Batcher], model: Model
) -> None:
    async def test() -> None:
        b = batcher(max_queue=4)
        model.gate.clear()
        tasks = [asyncio.create_task(ask(b, *range(n))) for n in (8, 4)]
        await asyncio.sleep(0.02)
        with pytest.raises(QueueFull) as refused:
            await ask(b, 9)
        assert refused.value.retry_after_s > 0
        model.gate.set()
        await asyncio.gather(*tasks)
        assert await ask(b, 9) == [9.0]

    run(test)


def test_a_request_larger_than_the_queue_is_served_when_nothing_waits(
    batcher: Callable[..., Batcher],
) -> None:
    async def test() -> None:
        values = [float(i) for i in range(30)]
        assert await ask(batcher(max_queue=4), *values) == values

    run(test)
