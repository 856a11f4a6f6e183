"""A worker's recorder: what is answered is durable, in the database or a spool, and there once."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service import database
from service.audit import commands, recorder
from service.audit.chain import Chain, Entry, Key, Row, new_entry
from service.audit.recorder import Alike, Recorder
from service.audit.spool import Spool
from service.audit.verifying import verify

KEY = b"0123456789abcdef0123456789abcdef"
REFUSAL = Alike("unknown", "classify", "401 no-key")


def entry() -> Entry:
    return new_entry("key:test", "classify", "200")


class Held:
    """The database, held by someone else while this is entered: so it is away for all others."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._db = sqlite3.connect(self._path, isolation_level=None)
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._db.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    return tmp_path / "audit.sqlite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


Start = Callable[..., Recorder]


@pytest.fixture
def start(path: Path, folder: Path) -> Iterator[Start]:
    opened: list[Recorder] = []

    def start(*keys: Key, spooling: bool = False) -> Recorder:
        engine = database.connect(f"sqlite:///{path}")
        opened.append(Recorder(engine, keys or (None,), folder, spooling))
        opened[-1].open()
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def record(to: Recorder, some: list[Entry]) -> list[bool]:
    async def together() -> list[bool]:
        return await asyncio.gather(*(to.record(one) for one in some))

    return asyncio.run(together())


def rows(path: Path) -> list[Row]:
    engine = database.connect(f"sqlite:///{path}")
    found = list(commands.rows_of(engine))
    engine.dispose()
    return found


def until(true: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_waits_together_is_committed_together_and_in_order(start: Start, path: Path) -> None:
    to = start()
    some = [entry() for _ in range(200)]
    assert all(record(to, some))
    found = rows(path)
    assert [row.id for row in found] == [one.id for one in some]
    assert verify(found).n_rows == 200


def test_a_row_is_in_the_database_when_record_returns(start: Start, path: Path) -> None:
    to = start()
    for n in range(1, 6):
        assert record(to, [entry()]) == [True]
        assert len(rows(path)) == n


def test_what_cannot_be_recorded_is_refused_and_recorded_again_once_it_can(
    start: Start, path: Path
) -> None:
    to = start()
    assert record(to, [entry()]) == [True]
    with Held(path):
        assert record(to, [entry(), entry()]) == [False, False]
        assert to.away
        assert record(to, [entry()]) == [False]
    until(lambda: not to.away)
    assert record(to, [entry()]) == [True]
    assert verify(rows(path)).n_rows == 2


def test_what_is_spooled_is_drained_in_order_and_once(
    start: Start, path: Path, folder: Path
) -> None:
    to = start(KEY, spooling=True)
    before, during, after = ([entry() for _ in range(n)] for n in (3, 700, 5))
    assert all(record(to, before))
    with Held(path):
        assert all(record(to, during[:400]))
        assert all(record(to, during[400:]))
        assert not to.away, "it spools"
        assert len(list(folder.glob("*.jsonl"))) == 1
    assert all(record(to, after))
    until(lambda: len(rows(path)) == 708)
    until(lambda: not list(folder.iterdir()))
    found = rows(path)
    assert [row.id for row in found] == [one.id for one in (*before, *during, *after)]
    assert verify(found, [KEY]).n_rows == 708


def test_a_spool_is_itself_a_chain_of_rows(folder: Path) -> None:
    spool = Spool.new(folder)
    spool.put([entry() for _ in range(4)], KEY)
    spool.put([entry()], KEY)
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert verify(commands.rows_in(path), [KEY], excerpt=True).n_rows == 5
    spool.close()


def dead(folder: Path, some: list[Entry], *keys: Key) -> Path:
    """A spool whose worker is no more."""
    spool = Spool.new(folder)
    spool.put(some, keys[-1] if keys else None)
    spool.close()
    return spool.path


@pytest.mark.parametrize("spooling", [True, False])
def test_a_dead_workers_spool_is_drained_by_the_next_start(
    start: Start, path: Path, folder: Path, spooling: bool
) -> None:
    some = [entry() for _ in range(1200)]
    dead(folder, some)
    start(spooling=spooling)
    until(lambda: len(rows(path)) == 1200)
    until(lambda: not list(folder.iterdir()))
    assert [row.id for row in rows(path)] == [one.id for one in some]


def test_a_living_workers_spool_is_left_alone(start: Start, path: Path, folder: Path) -> None:
    spool = Spool.new(folder)
    spool.put([entry()], None)
    to = start()
    assert record(to, [entry()]) == [True]
    until(lambda: to._next_look > 0)
    assert len(rows(path)) == 1
    assert spool.path.exists()
    spool.close()


def test_draining_that_was_interrupted_doubles_nothing(
    start: Start, path: Path, folder: Path
) -> None:
    some = [entry() for _ in range(10)]
    dead(folder, some)
    engine = database.connect(f"sqlite:///{path}")
    database.upgrade(engine)
    chain = Chain(engine)
    chain.append(some[:6])  # and then the worker that drained was killed
    chain.close()
    engine.dispose()
    start()
    until(lambda: not list(folder.iterdir()))
    assert [row.id for row in rows(path)] == [one.id for one in some]


def test_half_a_line_at_the_end_of_a_spool_was_no_row(
    start: Start, path: Path, folder: Path
) -> None:
    some = [entry() for _ in range(3)]
    spool = dead(folder, some)
    spool.write_bytes(spool.read_bytes()[:-20])
    start()
    until(lambda: not list(folder.iterdir()))
    assert [row.id for row in rows(path)] == [one.id for one in some[:2]]


@pytest.mark.parametrize("key", [None, KEY])
def test_a_spool_that_was_tampered_with_is_set_aside_and_the_audit_says_so(
    start: Start, path: Path, folder: Path, key: Key
) -> None:
    some = [entry() for _ in range(5)]
    spool = dead(folder, some, key)
    lines = spool.read_bytes().splitlines(keepends=True)
    changed = {**json.loads(lines[3]), "caller": "key:other"}
    spool.write_bytes(b"".join([*lines[:3], json.dumps(changed).encode() + b"\n", lines[4]]))
    start(key)
    until(lambda: len(rows(path)) == 4)
    assert [row.id for row in rows(path)[:3]] == [one.id for one in some[:3]]
    last = rows(path)[3]
    assert (last.action, last.outcome) == ("audit.spool", "broken")
    assert last.about == f"{spool.stem} line 4"
    until(lambda: [p.suffix for p in folder.iterdir()] == [".broken"])


def test_where_the_spool_cannot_be_written_answers_are_refused(
    start: Start, path: Path, folder: Path
) -> None:
    to = start(spooling=True)
    folder.write_bytes(b"not a folder")
    with Held(path):
        assert record(to, [entry()]) == [False]
        folder.unlink()
        assert record(to, [entry()]) == [True]
    until(lambda: len(rows(path)) == 1)


def test_a_full_disk_leaves_no_half_row_in_the_spool(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.new(folder)
    spool.put([entry()], None)
    real = os.pwrite

    def full(fd: int, content: bytes, at: int) -> int:
        if len(content) < 100:
            raise OSError(28, "No space left on device")
        return real(fd, content[:-50], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        spool.put([entry(), entry()], None)
    monkeypatch.setattr(os, "pwrite", real)
    spool.put([entry()], None)
    assert verify(commands.rows_in(spool.path), excerpt=True).n_rows == 2
    assert spool.waiting == 2
    spool.close()


def test_a_database_that_is_away_at_the_start_comes_later(start: Start, path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to be seen as none" * 30)
    to = start()
    assert to.away
    assert record(to, [entry()]) == [False]
    path.unlink()
    until(lambda: not to.away)
    assert record(to, [entry()]) == [True]


def test_refusals_are_summed(start: Start, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SUM_S", 0.2)
    to = start()
    for _ in range(1000):
        to.tally(REFUSAL)
    until(lambda: sum(row.times for row in rows(path)) == 1000)
    found = rows(path)
    assert len(found) < 20
    assert {Alike(row.caller, row.action, row.outcome) for row in found} == {REFUSAL}


def test_sums_of_ever_new_callers_are_bounded(start: Start, path: Path) -> None:
    to = start()
    with Held(path):
        record(to, [entry()])
        for i in range(3000):
            to.tally(REFUSAL._replace(caller=f"oidc:{i}"))
    until(lambda: sum(row.times for row in rows(path)) == 3000)
    assert len(rows(path)) <= 2 * (recorder.MOST_SUMS + 1)


def test_sums_wait_until_the_database_is_back_and_are_written_at_the_end(
    start: Start, path: Path
) -> None:
    to = start()
    with Held(path):
        assert record(to, [entry()]) == [False]
        for _ in range(50):
            to.tally(REFUSAL)
        time.sleep(1)
    until(lambda: not to.away)
    to.tally(REFUSAL)
    to.close()
    assert sum(row.times for row in rows(path)) == 51


def test_the_chains_end_is_told(start: Start, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(recorder.logs, "event", lambda name, **f: told.append({"event": name, **f}))
    to = start()
    record(to, [entry(), entry()])
    to.close()
    (*_, last) = rows(path)
    assert {"event": "audit head", "seq": last.seq, "hash": last.hash} in told
