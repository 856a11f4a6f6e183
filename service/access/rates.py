"""How often and how much at once, counted over all workers of a machine.

A client's connections stay with the workers that took them, so what a single worker counts is any
share of the truth. The counts lie in memory that the first process makes and the workers inherit,
as they do the listening socket; it has no name, and goes with the last of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import secrets
import struct
import time
from collections.abc import Iterator

ENVIRONMENT = "ECG_DOOR_FD"  # which descriptor the workers find the memory at
SLOTS = 4096  # callers with a limit, and as many addresses with failures, at a time
PROBES = 32
BURST = 6  # a sixth of a minute's requests may come at once

_MAGIC = b"ecg-door"
_HEAD = struct.Struct("8s32sQ16x")
_CALLERS, _ADDRESSES, _ROWS = 0, 1, 2  # bytes that are locked


class Crowded(Exception):
    """No slot is free."""


class Table:
    """A GCRA a name: the time at which its allowance is whole again; and what runs now, a row of
    counts a worker."""

    def __init__(self, memory: mmap.mmap, offset: int, rows: int, key: bytes) -> None:
        view = memoryview(memory)[offset:]
        self._names = view[: 8 * SLOTS].cast("Q")
        self._whole_at = view[8 * SLOTS : 16 * SLOTS].cast("d")
        at = [16 * SLOTS + 2 * SLOTS * row for row in range(rows)]
        self.running = [view[begin : begin + 2 * SLOTS].cast("H") for begin in at]
        self._key = key

    @staticmethod
    def size(rows: int) -> int:
        return (16 + 2 * rows) * SLOTS

    def slot(self, name: str, now: float) -> int:
        """Where the name is, or may be: a place that says nothing of anybody any more.
        Errors: Crowded."""
        digest = hashlib.blake2b(name.encode(), digest_size=8, key=self._key).digest()
        hashed = int.from_bytes(digest, "big") or 1
        free = None
        for i in range(hashed, hashed + PROBES):
            slot = i % SLOTS
            if self._names[slot] == hashed:
                return slot
            if free is None and self._whole_at[slot] <= now and not self.running_in(slot):
                free = slot
        if free is None:
            raise Crowded
        self._names[free], self._whole_at[free] = hashed, 0.0
        return free

    def running_in(self, slot: int) -> int:
        return sum([row[slot] for row in self.running])

    def wait_s(self, slot: int, per_minute: int, now: float) -> float:
        """Until one more may come; not positive where it may now."""
        interval = 60 / per_minute
        allowed = max(1, per_minute // BURST) * interval
        return max(self._whole_at[slot], now) + interval - allowed - now

    def take(self, slot: int, per_minute: int, now: float) -> None:
        self._whole_at[slot] = max(self._whole_at[slot], now) + 60 / per_minute


class Rates:
    """The memory as one worker sees it, which counts in a row of its own."""

    def __init__(self, fd: int) -> None:
        """Takes over the descriptor. Errors: OSError, ValueError where it is not of `make`."""
        self._fd = fd
        self._memory = mmap.mmap(fd, 0)
        magic, self.secret, n_rows = _HEAD.unpack_from(self._memory)
        if magic != _MAGIC:
            raise ValueError("the memory of the limits was not made by this service")
        self._callers = Table(self._memory, _HEAD.size, n_rows, self.secret)
        end = _HEAD.size + Table.size(n_rows)
        self._addresses = Table(self._memory, end, 0, self.secret)
        self._row = next((row for row in range(n_rows) if self._lock_row(row)), None)
        if self._row is None:
            raise ValueError(f"there are more workers than the {n_rows} that limits were made for")
        self._own = self._callers.running[self._row]
        self._own[:] = memoryview(bytes(2 * SLOTS)).cast("H")

    @staticmethod
    def make(rows: int) -> int:
        """A descriptor of new memory for so many workers at a time."""
        fd = os.memfd_create("ecg-door", os.MFD_CLOEXEC)
        os.ftruncate(fd, _HEAD.size + Table.size(rows) + Table.size(0))
        os.pwrite(fd, _HEAD.pack(_MAGIC, secrets.token_bytes(32), rows), 0)
        return fd

    @classmethod
    def inherited(cls) -> Rates:
        """The memory of this service's first process; a process alone has its own."""
        fd = os.environ.get(ENVIRONMENT)
        return cls(int(fd) if fd else cls.make(1))

    def enter(self, name: str, per_minute: int | None, at_once: int | None) -> float:
        """Count one more request, and 0; or the seconds after which to try again. What was counted
        `at_once` is to `leave`."""
        now = time.monotonic()
        with self._locked(_CALLERS):
            try:
                slot = self._callers.slot(name, now)
            except Crowded:
                return 1.0
            if at_once and self._full(slot, at_once):
                return 1.0
            if per_minute:
                if (wait_s := self._callers.wait_s(slot, per_minute, now)) > 0:
                    return wait_s
                self._callers.take(slot, per_minute, now)
            if at_once:
                self._own[slot] += 1
        return 0.0

    def leave(self, name: str) -> None:
        # nobody else writes in this row, and a slot in use stays its name's: no lock
        self._own[self._callers.slot(name, 0.0)] -= 1

    def failed(self, address: str, per_minute: int) -> float:
        """Count one more failure, and 0; or the seconds for which there were too many."""
        return self._of_address(address, per_minute, count=True)

    def failing(self, address: str, per_minute: int) -> float:
        """The same, and nothing is counted."""
        return self._of_address(address, per_minute, count=False)

    def _of_address(self, address: str, per_minute: int, count: bool) -> float:
        now = time.monotonic()
        with self._locked(_ADDRESSES):
            try:
                slot = self._addresses.slot(address, now)
            except Crowded:
                return 1.0
            wait_s = self._addresses.wait_s(slot, per_minute, now)
            if count and wait_s <= 0:
                self._addresses.take(slot, per_minute, now)
            return max(0.0, wait_s)

    def _full(self, slot: int, at_once: int) -> bool:
        if self._callers.running_in(slot) < at_once:
            return False
        for row, counts in enumerate(self._callers.running):
            if row != self._row and counts[slot] and self._lock_row(row):
                counts[:] = memoryview(bytes(2 * SLOTS)).cast("H")  # its worker died
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _ROWS + row)
        return self._callers.running_in(slot) >= at_once

    def _lock_row(self, row: int) -> bool:
        """Whether the row is nobody's, and ours from now on: the kernel gives back what the dead
        had locked."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _ROWS + row)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _locked(self, byte: int) -> Iterator[None]:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, byte)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, byte)


def share(workers: int) -> None:
    """Make the memory that workers started from here on inherit; twice as many, since one that is
    told to stop may still work when the next has come."""
    fd = Rates.make(2 * workers)
    os.set_inheritable(fd, True)
    os.environ[ENVIRONMENT] = str(fd)
