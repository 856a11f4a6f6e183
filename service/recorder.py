"""A worker's way into the audit: one thread that commits together what waits, and answers wait for.

Where the database is away, what waits is either refused or, by setting, written to a spool on this
machine's disk and drained from there once the database is back: a worker's rows stay in their
order, none is dropped silently, and none is there twice.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic.util import CommandError

from service import database, logs, metrics
from service.chain import FAILURES, MOST, START, Chain, Entry, Head, Key, new_entry
from service.spool import Spool, SpoolBroken

TICK_S = 0.5  # how often the thread looks around while nothing comes
# A commit takes as much of a core whether for one row or for ten: so it waits for others, if there
# are any.
GATHER_S = 0.002
HANGS_S = 5  # a transaction that takes longer has hung
PROBE_S = (0.25, 5.0)  # between attempts to reach a database that is away: at first, and at most
GIVE_UP_S = 30  # that an answer waits for its row
SUM_S = 10  # over which refusals are summed
HEAD_S = 60  # between log lines that tell the chain's end
LOOK_S = 60  # between looks for dead workers' spools
MOST_SUMS = 256  # sums at a time: the rest is summed under OTHERS
OTHERS = "others"

_WRITTEN, _SPOOLED, _REFUSED, _SUMMED = (
    metrics.AUDIT_ROWS.labels(way) for way in ("written", "spooled", "refused", "summed")
)


class Alike(NamedTuple):
    """What refusals have in common that are summed in a row."""

    caller: str
    action: str
    outcome: str


class _Waiting(NamedTuple):
    entry: Entry
    future: asyncio.Future[bool]


class Recorder:
    """`await record(entry)` returns once the entry is durable. Everything that can wait happens in
    threads; without a spool folder, nothing is spooled."""

    def __init__(
        self,
        engine: sa.Engine,
        keys: Sequence[Key] = (None,),
        spool_folder: Path | None = None,
        spooling: bool = False,
        at_once: Callable[[], int] = lambda: 0,
    ) -> None:
        """`at_once`: how many requests there are now, those that wait here among them."""
        self._engine, self._keys = engine, keys
        self._folder, self._spooling, self._at_once = spool_folder, spooling, at_once
        self._chain = Chain(engine, keys[-1])
        self._probing = Chain(engine, keys[-1])
        self._queue: queue.SimpleQueue[_Waiting | Alike | None] = queue.SimpleQueue()
        self._spool: Spool | None = None  # this worker's own, while it has one
        self._dead: list[Spool] = []
        self._sums: dict[Alike, list[float]] = {}  # how often, and when first
        self._head = self._told = START
        self._next_sum = self._next_head = self._next_look = 0.0
        self._current = False  # the schema, as far as is known
        self._away_since: float | None = None
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="audit", daemon=True)
        self._watch = threading.Thread(target=self._watch_on, name="audit watch", daemon=True)

    # What the event loop uses.

    def open(self) -> None:
        """Bring the schema up and begin; where the database is away, begin nevertheless. Blocks, a
        few seconds at most."""
        try:
            self._reach()
        except (*FAILURES, CommandError) as error:
            self._gone(error)
        self._writer.start()
        self._watch.start()

    @property
    def away(self) -> bool:
        """Whether the database is known to be away, and nothing is spooled instead."""
        return self._is_away and not self._spooling

    async def record(self, entry: Entry) -> bool:
        """Whether the entry is durable now."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._queue.put(_Waiting(entry, future))
        try:
            async with asyncio.timeout(GIVE_UP_S):
                return await future
        except TimeoutError:
            return False

    def tally(self, alike: Alike) -> None:
        """Count one more such refusal; the sum is written before long."""
        self._queue.put(alike)

    def close(self) -> None:
        """Write what waits, as far as that is possible. Blocks."""
        self._closing.set()
        self._queue.put(None)
        self._writer.join(2 * HANGS_S)
        self._watch.join(HANGS_S)
        self._engine.dispose()

    # The thread that writes.

    def _write_on(self) -> None:
        while True:
            closing = self._closing.is_set()
            batch: list[_Waiting] = []
            try:
                batch = self._gather()
                if batch:
                    self._write(batch)
                self._end_what_hangs(self._probing)
                if not self._is_away:
                    self._drain()
                self._write_sums(closing)
                self._tell_head(closing)
            except Exception as error:  # a bug, or a spool that cannot be read: answers go on
                logs.failure("audit", error)
                _settle([w for w in batch if not w.future.done()], False)
                time.sleep(TICK_S)
            if closing and self._queue.empty() and (self._is_away or not self._draining):
                break
        self._chain.close()
        for spool in (self._spool, *self._dead):
            if spool is not None:
                spool.close()

    def _gather(self) -> list[_Waiting]:
        """What waits, up to a statement's rows; sums are kept aside."""
        busy = self._closing.is_set() or (self._draining and not self._is_away)
        found: list[_Waiting] = []
        try:
            item = self._queue.get(timeout=0 if busy else TICK_S)
            if self._at_once() > 1:
                time.sleep(GATHER_S)
            while True:
                match item:
                    case _Waiting():
                        found.append(item)
                    case Alike():
                        self._count(item)
                if len(found) == MOST:
                    return found
                item = self._queue.get_nowait()
        except queue.Empty:
            return found

    def _write(self, batch: list[_Waiting]) -> None:
        _settle(batch, self._store([waiting.entry for waiting in batch]))

    def _store(self, entries: Sequence[Entry]) -> bool:
        """Whether the entries are durable, here or there. Behind rows that wait in the spool, they
        wait there too."""
        if not self._is_away and self._spool is None and self._commit(entries):
            return True
        return self._spooling and self._put(entries)

    def _commit(self, entries: Sequence[Entry], again: bool = False) -> bool:
        """Whether the entries are in the database. The connection may only have been old: a second
        attempt, with a new one, finds out what the first one achieved."""
        started = time.perf_counter()
        try:
            try:
                head = self._chain.append(entries, again=again)
            except FAILURES:
                if not self._chain.remote:
                    raise
                head = self._chain.append(entries, again=True)
        except FAILURES as error:
            self._gone(error)
            return False
        metrics.AUDIT_SECONDS.observe(time.perf_counter() - started)
        _WRITTEN.inc(len(entries))
        self._at(head)
        return True

    def _at(self, head: Head) -> None:
        self._head = head
        metrics.AUDIT_HEAD.set(head.seq)

    # The database that is away, and the thread that sees to it.

    @property
    def _is_away(self) -> bool:
        return self._away_since is not None

    def _gone(self, error: Exception) -> None:
        """From now on the database is away, until `_watch_on` finds it back."""
        if not self._is_away:
            self._away_since = time.monotonic()
            metrics.AUDIT_AWAY.set(1)
            state = getattr(error, "sqlstate", None)
            logs.event("audit away", error=type(error).__name__, sqlstate=state)

    def _watch_on(self) -> None:
        wait_s, most_s = PROBE_S
        while not self._closing.wait(wait_s):
            self._end_what_hangs(self._chain)
            if not self._is_away:
                wait_s = PROBE_S[0]
                continue
            try:
                self._reach()
                self._back()
            except (*FAILURES, CommandError):
                wait_s = min(2 * wait_s, most_s)
            finally:
                self._probing.close()

    def _back(self) -> None:
        assert self._away_since is not None
        logs.event("audit back", away_s=round(time.monotonic() - self._away_since, 1))
        metrics.AUDIT_AWAY.set(0)
        self._next_look = 0.0
        self._away_since = None
        self._queue.put(None)

    def _reach(self) -> None:
        """Errors: FAILURES, CommandError where the schema is a later version's."""
        if not self._current:
            database.upgrade(self._engine)
            self._current = True
        self._at(self._probing.head())

    def _end_what_hangs(self, chain: Chain) -> None:
        """Of the other thread."""
        since = chain.busy_since
        if since is not None and time.monotonic() - since > HANGS_S:
            chain.abort()

    # The spools.

    @property
    def _draining(self) -> bool:
        return self._spool is not None or bool(self._dead)

    def _put(self, entries: Sequence[Entry]) -> bool:
        assert self._folder
        try:
            self._spool = self._spool or Spool.new(self._folder)
            self._spool.put(entries, self._keys[-1])
        except OSError as error:
            logs.event("audit spool fails", error=type(error).__name__, errno=error.errno)
            return False
        _SPOOLED.inc(len(entries))
        self._count_spooled()
        return True

    def _drain(self) -> None:
        """One transaction's worth of what was spooled; the loop comes back for more."""
        if self._folder and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            self._dead += Spool.of_dead(self._folder)
            self._count_spooled()
        if not self._draining:
            return
        spool = self._dead[0] if self._dead else self._spool
        assert spool is not None
        try:
            entries = spool.take(self._keys)
        except SpoolBroken as broken:
            self._set_aside(spool, broken)
            return
        if not entries:
            self._forget(spool)
            spool.remove()
        elif self._commit(entries, again=True):
            spool.taken()
        self._count_spooled()

    def _set_aside(self, spool: Spool, broken: SpoolBroken) -> None:
        """What follows cannot be trusted: the file stays, and the audit itself says so."""
        about = f"{spool.path.stem} line {broken.line}"
        if self._commit([new_entry("service", "audit.spool", "broken", about=about)]):
            logs.event("audit spool broken", file=spool.path.stem, line=broken.line)
            self._forget(spool)
            spool.set_aside()
            self._count_spooled()

    def _forget(self, spool: Spool) -> None:
        if spool is self._spool:
            self._spool = None
        else:
            self._dead.remove(spool)

    def _count_spooled(self) -> None:
        spools = [*self._dead, *([self._spool] if self._spool else [])]
        metrics.AUDIT_SPOOLED_WAITING.set(sum(spool.waiting for spool in spools))

    # Sums and the chain's end.

    def _count(self, alike: Alike) -> None:
        if alike not in self._sums and len(self._sums) >= MOST_SUMS:
            alike = alike._replace(caller=OTHERS)
        self._sums.setdefault(alike, [0, time.time()])[0] += 1
        _SUMMED.inc()

    def _write_sums(self, now: bool) -> None:
        if not self._sums or (not now and time.monotonic() < self._next_sum):
            return
        self._next_sum = time.monotonic() + SUM_S
        if self.away:
            return  # they go on growing
        entries = [
            new_entry(*alike, ago_s=time.time() - first, times=int(n))
            for alike, (n, first) in self._sums.items()
        ]
        if self._store(entries):
            self._sums.clear()

    def _tell_head(self, now: bool) -> None:
        if self._head == self._told or (not now and time.monotonic() < self._next_head):
            return
        self._next_head = time.monotonic() + HEAD_S
        self._told = self._head
        logs.event("audit head", seq=self._head.seq, hash=self._head.hash)


def _settle(batch: list[_Waiting], durable: bool) -> None:
    """Tell those who wait, in their loop."""
    if not batch:
        return
    if not durable:
        _REFUSED.inc(len(batch))

    def tell() -> None:
        for waiting in batch:
            if not waiting.future.done():
                waiting.future.set_result(durable)

    try:
        batch[0].future.get_loop().call_soon_threadsafe(tell)
    except RuntimeError:
        pass  # the loop has ended, and nobody waits
