"""What is fetched from elsewhere and kept for a while: keys from the database, an issuer's keys."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from service import logs

T = TypeVar("T")
_TICK_S = 0.005  # an event loop may wake somebody a little early


class Unreachable(Exception):
    """There is no value, or none that is fresh enough."""


class Fetched(Generic[T]):
    """The value of `fetch()`, which is called in a thread and never twice at once.

    Args:
        name: in the log, where it fails.
        keep_s: that a value may be used, from when its fetch began.
        again_s: between two fetches, whoever asks for them.
        late_s: that anybody waits for one.
    """

    def __init__(
        self, name: str, fetch: Callable[[], T], keep_s: float, again_s: float, late_s: float
    ) -> None:
        self._name, self._fetch = name, fetch
        self._keep_s, self._again_s, self._late_s = keep_s, again_s, late_s
        self._value: T | None = None
        self._of = self._began = float("-inf")
        self._under_way: asyncio.Future[bool] | None = None

    def now(self) -> T | None:
        """The value while it is fresh; an ageing one is fetched anew meanwhile. Costs no wait."""
        age_s = time.monotonic() - self._of
        if age_s > self._keep_s / 2:
            self._begin()
        return self._value if age_s <= self._keep_s else None

    async def current(self) -> T:
        """A fresh value. Errors: Unreachable."""
        value = self.now()
        return value if value is not None else await self._after(self._under_way)

    async def newer(self, patient: bool = False) -> T:
        """For who did not find something in it: fetched anew where the last time is long enough
        ago. The patient wait for one that was begun after they asked. Errors: Unreachable."""
        asked = time.monotonic()
        value = await self._after(self._begin())
        if patient and self._of < asked:
            wait_s = self._began + self._again_s - time.monotonic()
            await asyncio.sleep(max(0.0, wait_s) + _TICK_S)
            value = await self._after(self._begin())
        return value

    async def _after(self, under_way: asyncio.Future[bool] | None) -> T:
        came = False
        if under_way is not None:
            with contextlib.suppress(TimeoutError):
                came = await asyncio.wait_for(asyncio.shield(under_way), self._late_s)
        # what was waited for is good, though it took longer than it may be kept
        if self._value is None or not (came or time.monotonic() - self._of <= self._keep_s):
            raise Unreachable(self._name)
        return self._value

    def _begin(self) -> asyncio.Future[bool] | None:
        """The fetch under way: one is begun unless one is, or was just now."""
        if self._under_way is not None or time.monotonic() - self._began < self._again_s:
            return self._under_way
        self._began = time.monotonic()
        loop = asyncio.get_running_loop()
        self._under_way = loop.create_future()
        # a daemon: one that hangs keeps no process from ending
        threading.Thread(target=self._run, args=(loop, self._began), daemon=True).start()
        return self._under_way

    def _run(self, loop: asyncio.AbstractEventLoop, began: float) -> None:
        value = None
        try:
            value = self._fetch()
        except Exception as error:  # its message may quote what was sent
            logs.event(f"{self._name} unreachable", error=type(error).__name__)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._done, value, began)

    def _done(self, value: T | None, began: float) -> None:
        if value is not None:
            self._value, self._of = value, began
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.set_result(value is not None)
