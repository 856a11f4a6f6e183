"""Audit rows on this machine's disk, while the database is away: a chain of their own in each
file, a JSON object a line as in an export.

A worker writes to one file, and holds its lock as long as it lives; a file that can be locked is a
dead worker's, and whoever comes first drains it. Rows that are drained twice are in the database
once, by their id; so a file is removed only when all of it is there.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from service.audit.chain import MOST, START, Entry, Head, Key, Row, digest, link

_ENDING = ".jsonl"


class SpoolBroken(Exception):
    """A line that is not what was written, by its number."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} is not what was written")
        self.line = line


def as_line(row: Row) -> bytes:
    """One line of a spool or an export."""
    return orjson.dumps(row._asdict(), option=orjson.OPT_APPEND_NEWLINE)


def as_row(line: bytes) -> Row:
    """Errors: ValueError, TypeError where the line is no row."""
    return Row(**orjson.loads(line))


class Spool:
    """One file: this worker's own, which it makes and appends to, or a dead one's."""

    def __init__(self, path: Path, fd: int, waiting: int = 0) -> None:
        self.path, self._fd = path, fd
        self.waiting = waiting  # rows not yet drained
        self._head = START  # of what is written
        self._end = 0  # of what is written and on the disk
        self._drained_head = START
        self._drained = 0  # up to which byte
        self._ahead = (self._drained, self._drained_head, 0)

    @classmethod
    def new(cls, folder: Path) -> Spool:
        """Errors: OSError."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / (uuid.uuid4().hex + _ENDING)
        unlocked = path.with_suffix(".new")  # nobody's, until it is locked
        fd = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        unlocked.rename(path)
        _sync_folder(folder)
        return cls(path, fd)

    @classmethod
    def of_dead(cls, folder: Path) -> Iterator[Spool]:
        """Those that no living worker holds, now this one's to drain. Errors: OSError."""
        for path in sorted(folder.glob("*" + _ENDING)):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:  # else drained and removed just before
                    yield cls(path, fd, _count_lines(fd))
                    continue
            except BlockingIOError:
                pass
            os.close(fd)

    def put(self, entries: Sequence[Entry], key: Key) -> None:
        """Append, and return once it is on the disk. Errors: OSError; then nothing was appended."""
        rows = link(entries, self._head, key)
        content = b"".join(map(as_line, rows))
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._fd, content[written:], self._end + written)
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._end)  # half a row may be there
            raise
        self._end += len(content)
        self._head = Head(rows[-1].seq, rows[-1].hash)
        self.waiting += len(rows)

    def take(self, keys: Sequence[Key]) -> list[Entry]:
        """The next entries to drain, checked; none at the end. What follows the last line break was
        never written whole, so no answer waited for it. Errors: SpoolBroken."""
        lines = os.pread(self._fd, MOST * 1024, self._drained).splitlines(keepends=True)[:MOST]
        at, head = self._drained, self._drained_head
        entries: list[Entry] = []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            row = _checked(line, head, keys)
            if row is None:
                if entries:  # first these; the next call comes to this line
                    break
                raise SpoolBroken(head.seq + 1)
            head = Head(row.seq, row.hash)
            at += len(line)
            entries.append(row.entry)
        self._ahead = (at, head, len(entries))
        return entries

    def taken(self) -> None:
        """What `take` gave is in the database."""
        self._drained, self._drained_head, n = self._ahead
        self.waiting -= n
        self._ahead = (self._drained, self._drained_head, 0)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        _sync_folder(self.path.parent)
        self.close()

    def set_aside(self) -> None:
        """Keep the file for whoever looks into it, out of the others' way."""
        self.path.rename(self.path.with_suffix(".broken"))
        _sync_folder(self.path.parent)
        self.close()

    def close(self) -> None:
        os.close(self._fd)  # and with it the lock


def _checked(line: bytes, head: Head, keys: Sequence[Key]) -> Row | None:
    """The row in the line, if it is whole and follows `head`."""
    try:
        row = as_row(line)
    except (ValueError, TypeError):
        return None
    right = any(digest(row, key) == row.hash for key in keys)
    return row if right and (row.seq, row.previous) == (head.seq + 1, head.hash) else None


def _count_lines(fd: int) -> int:
    n = at = 0
    while chunk := os.pread(fd, 2**20, at):
        n += chunk.count(b"\n")
        at += len(chunk)
    return n


def _sync_folder(folder: Path) -> None:
    """So that a name survives the machine, too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
