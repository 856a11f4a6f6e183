"""The chain of audit rows: what a row is, how it is hashed, and how rows come to its end.

A row's hash is SHA-256, or HMAC-SHA-256 under a key, of `canonical(row)`: the UTF-8 JSON array,
without spaces, of the row's columns in the order of `COLUMNS`, the hash of the row before it last.
So a row cannot be changed, taken out, put in or moved without every later hash being another. The
rows of all workers and replicas are one chain: whoever appends holds its end for one transaction.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from service.database import TABLES

# What a database that is away, full or locked raises.
FAILURES = (sqlite3.Error, psycopg.Error, SQLAlchemyError, OSError)
COLUMNS = (
    *("seq", "time", "id", "caller", "action", "about", "input_sha256", "model_sha256"),
    *("outcome", "times", "previous"),
)
NOTHING = "0" * 64  # what stands before the first row
MIN_KEY = 32  # bytes
UNKEYED = b"none"
MOST = 500  # rows a statement: both databases take as many parameters
_LOCK = 0x45434741  # any number, the same everywhere

TABLE = sa.Table(
    "audit",
    TABLES,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True,
        autoincrement=False,
    ),
    sa.Column("time", sa.String(32), nullable=False),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("caller", sa.String(300), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("about", sa.String(300)),
    sa.Column("input_sha256", sa.String(64)),
    sa.Column("model_sha256", sa.String(64)),
    sa.Column("outcome", sa.String(64), nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)  # fmt: skip
# Up to where rows have been exported and may be deleted: one row a sealing.
SEALED = sa.Table(
    "audit_sealed",
    TABLES,
    sa.Column(
        "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True,
        autoincrement=False,
    ),
)  # fmt: skip


class Entry(NamedTuple):
    """What is to be recorded, before it has a place in the chain. `id` is the request's, and no
    two rows'; `about` is what an administrator's action was about; `times` is above 1 where alike
    refusals are summed."""

    time: str
    id: str
    caller: str
    action: str
    about: str | None
    input_sha256: str | None
    model_sha256: str | None
    outcome: str
    times: int


class Row(NamedTuple):
    """An entry in its place."""

    seq: int
    time: str
    id: str
    caller: str
    action: str
    about: str | None
    input_sha256: str | None
    model_sha256: str | None
    outcome: str
    times: int
    previous: str
    hash: str

    @property
    def entry(self) -> Entry:
        return Entry(*self[1:10])


class Head(NamedTuple):
    """The last row, as far as the next one is concerned."""

    seq: int
    hash: str


START = Head(0, NOTHING)
Key = bytes | None  # None: plain SHA-256


def new_entry(
    caller: str,
    action: str,
    outcome: str,
    *,
    row_id: str | None = None,
    ago_s: float = 0.0,
    about: str | None = None,
    input_sha256: str | None = None,
    model_sha256: str | None = None,
    times: int = 1,
) -> Entry:
    """What happened `ago_s` ago, in what a database and every JSON reader take as it is."""
    when = datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="milliseconds")
    return Entry(
        when,
        row_id or uuid.uuid4().hex,
        _plain(caller, 300),
        _plain(action, 32),
        about and _plain(about, 300),
        input_sha256,
        model_sha256,
        _plain(outcome, 64),
        times,
    )


def _plain(text: str, n_most: int) -> str:
    """A token's subject may hold what no database takes: NUL, half a surrogate pair."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text[:n_most]


def canonical(row: Row) -> bytes:
    """What is hashed."""
    return orjson.dumps(row[:-1])


def digest(row: Row, key: Key) -> str:
    content = canonical(row)
    if key is None:
        return hashlib.sha256(content).hexdigest()
    return hmac.digest(key, content, "sha256").hex()


def link(entries: Sequence[Entry], head: Head, key: Key) -> list[Row]:
    """The entries as the rows that follow `head`."""
    rows: list[Row] = []
    seq, previous = head
    for entry in entries:
        seq += 1
        row = Row(seq, *entry, previous, "")
        previous = digest(row, key)
        rows.append(row._replace(hash=previous))
    return rows


def read_keys(path: Path | None) -> list[Key]:
    """The keys in the file, one a line, the newest last: that one hashes new rows. A first line
    `none` stands for rows from before there was a key. Without a file, the chain has no key.
    Errors: ValueError."""
    if path is None:
        return [None]
    try:
        lines = path.read_bytes().split()
    except OSError as error:
        raise ValueError(f"the audit's key file cannot be read: {error.strerror}") from None
    if not lines or lines[-1] == UNKEYED or UNKEYED in lines[1:]:
        raise ValueError("the audit's key file needs a key a line; `none` may only come first")
    if any(len(line) < MIN_KEY for line in lines if line != UNKEYED):
        raise ValueError(
            f"a key of the audit has fewer than {MIN_KEY} characters; "
            "`openssl rand -hex 32` makes a good one"
        )
    return [None if line == UNKEYED else line for line in lines]


_INSERT = f"INSERT INTO audit ({', '.join((*COLUMNS, 'hash'))}) VALUES "  # nosec B608
_HEAD = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"

# Of PostgreSQL: durable whatever the server's default, and let go of where we are gone.
_BEGIN = (
    "BEGIN; SET LOCAL synchronous_commit = on; "
    "SET LOCAL idle_in_transaction_session_timeout = '10s'; "
    f"SELECT pg_advisory_xact_lock({_LOCK}); {_HEAD}"
)


class Chain:
    """The chain's end, for one thread: over one connection, which is kept.

    The statements are given to the driver itself: SQLAlchemy's part of a commit would be most of
    it, and other threads wait for the interpreter meanwhile.
    """

    def __init__(self, engine: sa.Engine, key: Key = None) -> None:
        self._engine, self._key = engine, key
        self.remote = engine.dialect.name == "postgresql"
        self._connection: Any = None
        self._mark = "%s" if self.remote else "?"
        self.busy_since: float | None = None  # by time.monotonic()

    def append(self, entries: Sequence[Entry], *, again: bool = False) -> Head:
        """Commit the entries at the chain's end, and what the end is then. With `again`, those that
        are there already are left out. Errors: FAILURES; the rows may be there nevertheless, where
        the connection broke while they were committed."""
        head = START
        for i in range(0, len(entries), MOST):
            head = self._bounded(entries[i : i + MOST], again)
        return head

    def head(self) -> Head:
        """Errors: FAILURES."""
        return self._bounded((), False)

    def close(self) -> None:
        """Let go of the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except FAILURES:
                pass

    def abort(self) -> None:
        """End what another thread waits for, with an error there: a server that hangs says nothing,
        and the driver would wait forever."""
        connection = self._connection
        if self.remote and connection is not None:
            try:
                with socket.socket(fileno=os.dup(connection.fileno())) as its:
                    its.shutdown(socket.SHUT_RDWR)
            except FAILURES:
                pass  # it has just come to its end

    def _bounded(self, entries: Sequence[Entry], again: bool) -> Head:
        self.busy_since = time.monotonic()
        try:
            if self._connection is None:
                self._connection = self._connect()
            return self._transaction(self._connection.cursor(), entries, again)
        except BaseException:
            self.close()  # which also ends the transaction
            raise
        finally:
            self.busy_since = None

    def _connect(self) -> Any:
        held = self._engine.raw_connection()
        connection = held.driver_connection
        assert connection is not None
        held.detach()
        if self.remote:
            connection.autocommit = True  # we say where a transaction begins
        return connection

    def _transaction(self, cursor: Any, entries: Sequence[Entry], again: bool) -> Head:
        head = self._begin(cursor)
        if again and entries:
            marks = ", ".join([self._mark] * len(entries))
            ids = [entry.id for entry in entries]
            cursor.execute(f"SELECT id FROM audit WHERE id IN ({marks})", ids)  # nosec B608
            there = {row[0] for row in cursor.fetchall()}
            entries = [entry for entry in entries if entry.id not in there]
        if not entries:
            cursor.execute("COMMIT")
            return head
        rows = link(entries, head, self._key)
        marks = "(" + ", ".join([self._mark] * len(Row._fields)) + ")"
        insert = _INSERT + ", ".join([marks] * len(rows))
        values = [value for row in rows for value in row]
        if self.remote:
            with self._connection.pipeline():  # both in one round trip
                cursor.execute(insert, values)
                cursor.execute("COMMIT")
        else:
            cursor.execute(insert, values)
            cursor.execute("COMMIT")
        return Head(rows[-1].seq, rows[-1].hash)

    def _begin(self, cursor: Any) -> Head:
        """Hold the chain's end until the transaction's."""
        if self.remote:
            # one round trip; each statement sees what was committed before it began
            cursor.execute(_BEGIN)
            while cursor.nextset():
                pass
        else:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(_HEAD)
        found = cursor.fetchone()
        return Head(*found) if found else START
