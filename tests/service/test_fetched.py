"""What is fetched and kept: when anew, how often at most, and what happens where it fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from service.access.fetched import Fetched, Unreachable


def fetched(fetch: Callable[[], int], **seconds: float) -> Fetched[int]:
    return Fetched("numbers", fetch, **{"keep_s": 60, "again_s": 0, "late_s": 5, **seconds})


class Source:
    """Counts from 1, slowly; fails while it is `away`."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.asked, self.away, self.takes_s = 0, False, takes_s
        self.threads: set[int] = set()

    def __call__(self) -> int:
        self.asked += 1
        self.threads.add(threading.get_ident())
        time.sleep(self.takes_s)
        if self.away:
            raise OSError("a message that may quote a password")
        return self.asked


def test_many_at_once_cause_one_fetch_beside_the_loop() -> None:
    source = Source(0.05)

    async def many() -> list[int]:
        numbers = fetched(source)
        return await asyncio.gather(*(numbers.current() for _ in range(50)))

    assert set(asyncio.run(many())) == {1}
    assert source.asked == 1
    assert threading.get_ident() not in source.threads


def test_a_value_is_used_while_fresh_and_renewed_before_it_is_not() -> None:
    source = Source()

    async def over_time() -> list[int]:
        numbers = fetched(source, keep_s=0.2)
        seen = []
        for _ in range(20):
            seen.append(await numbers.current())
            await asyncio.sleep(0.05)
        return seen

    seen = asyncio.run(over_time())
    assert seen == sorted(seen) and seen[-1] > 3
    assert source.asked < 20


def test_where_the_source_is_away_the_last_value_holds_until_it_is_old() -> None:
    source = Source()

    async def away() -> None:
        numbers = fetched(source, keep_s=1.0)
        assert await numbers.current() == 1
        source.away = True
        assert await numbers.current() == 1
        await asyncio.sleep(1.1)
        with pytest.raises(Unreachable):
            await numbers.current()
        assert numbers.now() is None
        await asyncio.sleep(0.3)
        source.away = False
        assert await numbers.current() > 1

    asyncio.run(away())


def test_who_misses_something_causes_a_fetch_but_not_one_after_another() -> None:
    source = Source()

    async def missing() -> None:
        numbers = fetched(source, again_s=1.0)
        await numbers.current()
        for _ in range(100):
            assert await numbers.newer() == 1
        await asyncio.sleep(1.1)
        assert await numbers.newer() == 2

    asyncio.run(missing())
    assert source.asked == 2


def test_nobody_waits_longer_than_they_should_for_one_that_hangs() -> None:
    source = Source(2)

    async def hanging() -> float:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            await fetched(source, late_s=0.1).current()
        return time.monotonic() - began

    assert asyncio.run(hanging()) < 1.5


def test_a_fetch_that_takes_longer_than_it_keeps_still_answers_who_waited() -> None:
    source = Source(0.2)

    async def slowly() -> list[int]:
        numbers = fetched(source, keep_s=0.1)
        return [await numbers.current() for _ in range(3)]

    assert asyncio.run(slowly()) == [1, 2, 3]


def test_a_failure_is_logged_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.away = True

    async def failing() -> None:
        with pytest.raises(Unreachable):
            await fetched(source).current()

    with caplog.at_level("INFO", logger="ecg"):
        asyncio.run(failing())
    assert "OSError" in caplog.text and "password" not in caplog.text


def test_the_patient_get_what_came_just_now() -> None:
    values = iter(range(9))

    async def ask() -> tuple[int, int, int]:
        fetched = Fetched("numbers", lambda: next(values), keep_s=60, again_s=0.2, late_s=5)
        return await fetched.current(), await fetched.newer(), await fetched.newer(patient=True)

    assert asyncio.run(ask()) == (0, 0, 1)
