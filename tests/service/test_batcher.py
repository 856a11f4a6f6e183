"""The batcher, with a model of one line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from service.batcher import Batcher, ModelFailed, QueueFull

Make = Callable[..., Batcher[float, float]]


class Model:
    """Answers each item with its value, holds until released, and notes its batches."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.threads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails_on: float | None = None

    def __call__(self, items: Sequence[float]) -> list[float]:
        self.gate.wait(10)
        self.batches.append(list(items))
        self.threads.append(threading.current_thread().name)
        if self.fails_on in items:
            raise RuntimeError
        return list(items)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Callable[..., Batcher[float, float]]:
    def make(**changes: float) -> Batcher[float, float]:
        options = {"threads": 1, "max_batch": 8, "max_wait_s": 0.01, "max_queue": 100}
        options |= {"max_delay_s": 1000} | changes
        return Batcher("test", model, **options)  # type: ignore[arg-type]

    return make


async def ask(
    batcher: Batcher[float, float], *values: float, timeout: float = 10, size: int = 1
) -> list[float]:
    deadline = asyncio.get_running_loop().time() + timeout
    return await batcher(values, [size] * len(values), deadline)


def run(test: Callable[[], object]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_each_caller_gets_its_own_rows(batcher: Make) -> None:
    async def test() -> None:
        b = batcher(threads=2, max_queue=1000)
        asked = [[float(100 * i + j) for j in range(i % 5 + 1)] for i in range(50)]
        assert await asyncio.gather(*(ask(b, *values) for values in asked)) == asked

    run(test)


def test_what_waits_shares_a_run(batcher: Make, model: Model) -> None:
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


def test_a_large_request_is_split_by_segments(batcher: Make, model: Model) -> None:
    async def test() -> None:
        values = [float(i) for i in range(21)]
        assert await ask(batcher(threads=2), *values) == values
        assert sorted(model.sizes) == [5, 8, 8]

    run(test)


def test_a_failing_request_fails_alone(batcher: Make, model: Model) -> None:
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


def test_cancelled_and_late_requests_leave_the_queue_unrun(batcher: Make, model: Model) -> None:
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


def test_a_full_queue_refuses_and_says_when_to_come_again(batcher: Make, model: Model) -> None:
    async def test() -> None:
        b = batcher(max_queue=4)
        model.gate.clear()
        tasks = []
        for n in (8, 4):
            tasks.append(asyncio.create_task(ask(b, *range(n))))
            await asyncio.sleep(0.02)
        with pytest.raises(QueueFull) as refused:
            await ask(b, 9)
        assert refused.value.retry_after_s > 0
        model.gate.set()
        await asyncio.gather(*tasks)
        assert await ask(b, 9) == [9.0]

    run(test)


def test_a_request_larger_than_the_queue_is_served_when_nothing_waits(
    batcher: Make,
) -> None:
    async def test() -> None:
        values = [float(i) for i in range(30)]
        assert await ask(batcher(max_queue=4), *values) == values

    run(test)


def test_requests_take_turns(batcher: Make, model: Model) -> None:
    """A short request does not wait for the whole of a long one that came before."""

    async def test() -> None:
        b = batcher()
        model.gate.clear()
        first = asyncio.create_task(ask(b, 0))
        await asyncio.sleep(0.05)
        long = asyncio.create_task(ask(b, *range(100, 120)))
        await asyncio.sleep(0.05)
        short = asyncio.create_task(ask(b, 1, 2))
        await asyncio.sleep(0.05)
        model.gate.set()
        assert await long == list(range(100, 120))
        await asyncio.gather(first, short)
        assert model.batches[1] == [100, 1, 101, 2, 102, 103, 104, 105]

    run(test)


def test_items_count_as_many_segments_as_they_have(batcher: Make, model: Model) -> None:
    async def test() -> None:
        b = batcher()
        model.gate.clear()
        first = asyncio.create_task(ask(b, 0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(ask(b, i, size=3)) for i in range(1, 5)]
        await asyncio.sleep(0.05)
        model.gate.set()
        await asyncio.gather(first, *others)
        assert model.batches == [[0], [1, 2], [3, 4]], "never more than 8 segments, never split"

    run(test)


def test_a_wait_that_would_be_too_long_is_refused_at_once(batcher: Make, model: Model) -> None:
    async def test() -> None:
        b = batcher(max_delay_s=0.05)
        model.gate.clear()
        first = asyncio.create_task(ask(b, 0))
        await asyncio.sleep(0.3)
        model.gate.set()
        await first  # 0.3 s for a segment: the estimate rises above 0.03 s
        model.gate.clear()
        running = asyncio.create_task(ask(b, 1))
        await asyncio.sleep(0.02)
        waiting = asyncio.create_task(ask(b, 2))
        await asyncio.sleep(0.02)
        with pytest.raises(QueueFull) as refused:
            b.check_room()
        assert refused.value.retry_after_s > 0.05
        model.gate.set()
        assert await asyncio.gather(running, waiting) == [[1], [2]]
        b.check_room()

    run(test)


def test_a_long_request_does_not_make_short_ones_seem_late(batcher: Make, model: Model) -> None:
    """They take turns, so one segment waits for as many segments as there are requests."""

    async def test() -> None:
        b = batcher(max_delay_s=0.05, max_queue=10_000)
        model.gate.clear()
        running = asyncio.create_task(ask(b, 0))
        await asyncio.sleep(0.02)
        long = asyncio.create_task(ask(b, *range(1, 1000)))
        await asyncio.sleep(0.02)
        b.check_room(1)
        with pytest.raises(QueueFull):
            b.check_room(999)
        model.gate.set()
        await asyncio.gather(running, long)

    run(test)


def test_what_is_little_and_alone_is_run_by_the_loop_itself(batcher: Make, model: Model) -> None:
    async def test() -> None:
        b = batcher(max_here=2)
        here = threading.current_thread().name
        assert await ask(b, 1, 2) == [1, 2]
        assert model.threads == [here]
        assert await ask(b, 1, 2, 3) == [1, 2, 3]
        assert model.threads[1] != here
        model.fails_on = 7
        with pytest.raises(ModelFailed):
            await ask(b, 7)
        assert await ask(b, 8) == [8]

    run(test)


def test_the_loop_prepares_what_a_thread_runs(model: Model) -> None:
    async def test() -> None:
        seen: list[str] = []

        def before(items: Sequence[float]) -> list[float]:
            seen.append(threading.current_thread().name)
            return [10 * item for item in items]

        b = Batcher(
            "test",
            model,
            before=before,
            threads=1,
            max_batch=8,
            max_wait_s=0.01,
            max_queue=100,
            max_delay_s=1,
        )
        assert await ask(b, 1, 2) == [10, 20]
        assert seen == [threading.current_thread().name] != model.threads

    run(test)


@pytest.mark.parametrize("max_here", [0, 8])
def test_what_fails_on_the_loop_fails_its_own_request_and_no_more(
    model: Model, max_here: int
) -> None:
    async def test() -> None:
        def before(items: Sequence[float]) -> Sequence[float]:
            if 3 in items:
                raise RuntimeError
            return items

        sizes = {"threads": 1, "max_batch": 8, "max_queue": 100, "max_here": max_here}
        b = Batcher("test", model, before=before, max_wait_s=0.01, max_delay_s=1, **sizes)
        for _ in range(3):  # a run that is never given back would stop the batcher
            results = await asyncio.gather(*(ask(b, i) for i in range(5)), return_exceptions=True)
            assert isinstance(results.pop(3), ModelFailed)
            assert results == [[0], [1], [2], [4]]

    run(test)
