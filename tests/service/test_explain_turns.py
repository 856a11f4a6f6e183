"""Explanations beside everybody else's requests: turns, deadlines, hang-ups, the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from ecg.record import Record
from ecg.store import Classifier, load_classifier
from service import classify, explaining
from service.batcher import Batcher, QueueFull
from service.classify import Copies, Item, Judged
from tests.ecg import fake_model


class Spied:
    """The model's runs: what was in each, in which thread; held until the gate opens."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.runs: list[list[Item]] = []
        self.threads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[Item]) -> list[Judged]:
        self.gate.wait(10)
        self.runs.append(list(items))
        self.threads.append(threading.current_thread().name)
        return classify.run(self.classifier, items)

    @property
    def kinds(self) -> list[set[str]]:
        return [{type(item).__name__ for item in items} for items in self.runs]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load_classifier(fake_model.store(tmp_path_factory.mktemp("store") / "fake"), "cpu")


@pytest.fixture
def spied(classifier: Classifier) -> Spied:
    return Spied(classifier)


@pytest.fixture
def batcher(spied: Spied) -> Callable[..., Batcher[Item, Judged]]:
    def make(**changes: Any) -> Batcher[Item, Judged]:
        card = spied.classifier.card
        options = {"threads": 1, "max_batch": 32, "max_wait_s": 0.002, "max_queue": 4096}
        options |= {"max_delay_s": 1000, "max_here": 8} | changes
        return Batcher("test", spied, before=partial(classify.prepare_few, card), **options)

    return make


async def ask(
    b: Batcher[Item, Judged], spied: Spied, record: Record, explain: bool, timeout: float = 120
) -> list[dict[str, Any]]:
    deadline = asyncio.get_running_loop().time() + timeout

    async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(work, *args)

    given = [record], spied.classifier.card, b, in_thread, deadline
    return await (explaining.answer(*given, 4) if explain else classify.answer(*given))


async def until(happened: Callable[[], Any]) -> None:
    while not happened():
        await asyncio.sleep(0.001)


def test_copies_are_run_in_threads_in_small_items(
    batcher: Callable[..., Batcher[Item, Judged]], spied: Spied, record: Record
) -> None:
    (result,) = asyncio.run(ask(batcher(), spied, record, True))
    assert np.shape(result["explanation"]["importance"]) == (8, 50)
    of_copies = [i for i, kinds in enumerate(spied.kinds) if "Copies" in kinds]
    assert all(spied.threads[i].startswith("run-") for i in of_copies)
    items = [item for i in of_copies for item in spied.runs[i] if isinstance(item, Copies)]
    assert sum(len(item.gone) for item in items) == 8 * 50 + 1 + 9
    assert max(len(item.gone) for item in items) == explaining.PART


def test_a_batch_smaller_than_a_part_is_enough(
    batcher: Callable[..., Batcher[Item, Judged]], spied: Spied, record: Record
) -> None:
    (small,) = asyncio.run(ask(batcher(max_batch=3), spied, record, True))
    (large,) = asyncio.run(ask(batcher(), spied, record, True))
    both = [np.array(found["explanation"]["importance"]) for found in (small, large)]
    assert np.abs(both[0] - both[1]).max() < 0.01


def test_a_plain_request_does_not_wait_for_an_explanation(
    batcher: Callable[..., Batcher[Item, Judged]], spied: Spied, record: Record
) -> None:
    async def test() -> None:
        b = batcher()
        explained = asyncio.create_task(ask(b, spied, record, True))
        await until(lambda: {"Copies"} in spied.kinds)
        spied.gate.clear()
        before = len(spied.runs)
        plain = asyncio.create_task(ask(b, spied, record, False))
        await asyncio.sleep(0.05)
        spied.gate.set()
        await plain
        assert not explained.done()
        assert len(spied.runs) <= before + 3, "the run under way, and the next"
        await explained

    asyncio.run(test())


def test_who_hangs_up_or_is_late_leaves_the_queue(
    batcher: Callable[..., Batcher[Item, Judged]], spied: Spied, record: Record
) -> None:
    async def test() -> None:
        b = batcher()
        explained = asyncio.create_task(ask(b, spied, record, True))
        await until(lambda: {"Copies"} in spied.kinds)
        spied.gate.clear()
        explained.cancel()
        with pytest.raises(asyncio.CancelledError):
            await explained
        spied.gate.set()
        await asyncio.sleep(0.05)
        seen = len(spied.runs)
        await asyncio.sleep(0.05)
        assert len(spied.runs) == seen < 8
        spied.gate.clear()
        late = asyncio.create_task(ask(b, spied, record, True, timeout=0.1))
        await asyncio.sleep(0)
        threading.Timer(0.3, spied.gate.set).start()
        with pytest.raises(TimeoutError):
            await late

    asyncio.run(test())


def test_an_explanation_is_refused_where_too_much_waits(
    batcher: Callable[..., Batcher[Item, Judged]], spied: Spied, record: Record
) -> None:
    async def test() -> None:
        b = batcher(max_queue=300)
        first = asyncio.create_task(ask(b, spied, record, True))  # finds the queue empty
        await until(lambda: {"Copies"} in spied.kinds)
        segment = next(i for i in spied.runs[-1] if isinstance(i, Copies))
        deadline = asyncio.get_running_loop().time() + 10
        with pytest.raises(QueueFull):
            await b([segment] * 31, [len(segment.gone)] * 31, deadline)
        assert len(await first) == 1

    asyncio.run(test())


def test_the_rule_decides_which_segment_is_explained(spied: Spied) -> None:
    """A short remainder may be more probable, but does not decide."""
    card = spied.classifier.card
    assert explaining._deciding(np.array([10, 10, 2]), np.array([0.2, 0.4, 0.9]), card) == 1
    assert explaining._deciding(np.array([2, 3]), np.array([0.2, 0.4]), card) == 1
