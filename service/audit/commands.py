"""For whoever answers for the audit: `python -m service.audit verify | export | seal | upgrade`."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import orjson
import sqlalchemy as sa

from service import database
from service.audit.chain import (
    FAILURES,
    SEALED,
    TABLE,
    Head,
    Key,
    Row,
    read_keys,
)
from service.audit.spool import as_line, as_row
from service.audit.trail import record_now
from service.audit.verifying import ANCHOR, SEAL, Broken, Report, verify
from service.settings import Settings

PAGE = 5000  # rows held at a time
MAX_SEQ = 2**63 - 1
_DELETED = 5000  # rows a transaction, so that answers need not wait long


def rows_of(engine: sa.Engine, first: int = 0, last: int = MAX_SEQ) -> Iterator[Row]:
    """The table's rows in their order, a page at a time. Errors: FAILURES."""
    while True:
        seq = TABLE.c.seq
        page = sa.select(TABLE).where(seq >= first, seq <= last).order_by(seq).limit(PAGE)
        with engine.connect() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            yield Row(*row)
        if len(rows) < PAGE:
            return
        first = rows[-1].seq + 1


def rows_between(engine: sa.Engine, since: str, until: str) -> Iterator[Row]:
    """Those of requests in [since, until), and the few between them in the chain that came a moment
    earlier or later: so an excerpt is a piece of the chain, and can be verified."""
    seq, when = TABLE.c.seq, TABLE.c.time
    with engine.connect() as connection:
        first = connection.scalar(sa.select(sa.func.min(seq)).where(when >= since))
        last = connection.scalar(sa.select(sa.func.max(seq)).where(when < until))
    if first is None or last is None:
        return iter(())
    return rows_of(engine, first, last)


def rows_in(file: Path) -> Iterator[Row]:
    """Of an export or a spool. Errors: Broken where a line is no row."""
    with file.open("rb") as lines:
        for n, line in enumerate(lines, 1):
            try:
                yield as_row(line)
            except (ValueError, TypeError):
                raise Broken(f"line {n} of the file is not a row") from None


def read_anchors(given: Sequence[str]) -> dict[int, str]:
    """Of each `SEQ:HASH`, or file with such lines or with the service's log. Errors: ValueError,
    OSError."""
    anchors: dict[int, str] = {}
    for anchor in given:
        if found := ANCHOR.fullmatch(anchor):
            anchors[int(found[1])] = found[2]
            continue
        found_here: dict[int, str] = {}
        with Path(anchor).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                _read_anchor(line.strip(), found_here)
        anchors |= found_here
        if not found_here:
            raise ValueError(f"{anchor} holds no SEQ:HASH and no event `audit head`")
    anchors.pop(0, None)  # of a chain without rows
    return anchors


def _read_anchor(line: str, anchors: dict[int, str]) -> None:
    if found := ANCHOR.fullmatch(line):
        anchors[int(found[1])] = found[2]
    elif "audit head" in line and "{" in line:  # a collector may have put something before it
        try:
            event = orjson.loads(line[line.index("{") :])
            if event.get("event") == "audit head":
                anchors[int(event["seq"])] = str(event["hash"])
        except (ValueError, KeyError, AttributeError):
            pass


def export(rows: Iterable[Row], out: Path) -> tuple[int, str]:
    """Write the rows to a new file, for its owner alone: how many, and the file's SHA-256. Errors:
    OSError, FileExistsError."""
    n, sha256 = 0, hashlib.sha256()
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as file:
        for row in rows:
            line = as_line(row)
            sha256.update(line)
            file.write(line)
            n += 1
        file.flush()
        os.fsync(fd)
    return n, sha256.hexdigest()


def seal(engine: sa.Engine, keys: Sequence[Key], before: str, out: Path) -> tuple[int, str]:
    """Export the chain's rows up to the first one of `before` or later, record that, and delete
    them; how many, and the file's SHA-256. Errors: Broken, FAILURES."""
    verify(rows_of(engine), keys)
    last: Head | None = None

    def older() -> Iterator[Row]:
        nonlocal last
        for row in rows_of(engine):
            if row.time >= before:
                return
            last = Head(row.seq, row.hash)
            yield row

    n, sha256 = export(older(), out)
    if last is None:
        out.unlink()
        return 0, sha256
    record_now(engine, SEAL, about=f"{last.seq}:{last.hash}", input_sha256=sha256, keys=keys)
    with _writing(engine) as connection:
        connection.execute(sa.insert(SEALED).values(seq=last.seq))
    _delete(engine, last.seq)
    return n, sha256


def _delete(engine: sa.Engine, last: int) -> None:
    """From the oldest on, so that what is left follows the seal, whenever this is interrupted."""
    gone = TABLE.c.seq
    while True:
        with _writing(engine) as connection:
            first = connection.scalar(sa.select(sa.func.min(gone)))
            if first is None or first > last:
                return
            upto = min(last, first + _DELETED - 1)
            connection.execute(sa.delete(TABLE).where(gone <= upto))


class _writing:
    """A transaction that writes, in either database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._connection = engine.connect()

    def __enter__(self) -> sa.Connection:
        if self._connection.dialect.name == "sqlite":
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._connection.commit()
        self._connection.close()


_RATING = "studies, raters, rated_ecgs, presentations, answers"


def grant(engine: sa.Engine, role: str) -> None:
    """Give the role what the service needs, in PostgreSQL: to read, to append to the audit and to
    what raters say, to make studies, and to end them and their links."""
    quoted = engine.dialect.identifier_preparer.quote(role)
    with engine.begin() as connection:
        for rights in (
            f"SELECT ON alembic_version, keys, audit, audit_sealed, {_RATING}",
            f"INSERT ON audit, {_RATING}",
            "UPDATE (closed) ON studies",
            "UPDATE (revoked) ON raters",
        ):
            connection.exec_driver_sql(f"GRANT {rights} TO {quoted}")


def _day(text: str) -> str:
    """As the rows' times are written: in UTC, unless the text says otherwise."""
    when = datetime.fromisoformat(text)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return when.isoformat(timespec="milliseconds")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.audit", description=__doc__)
    parser.add_argument("--database-url", help="else ECG_DATABASE_URL")
    parser.add_argument("--key-file", type=Path, help="else ECG_AUDIT_KEY_FILE")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="walk the chain; status 1 where it is broken")
    check.add_argument(
        *("--anchor",), action="append", default=[], metavar="SEQ:HASH|FILE",
        help="what was known of the chain's end; a file may be the service's log",
    )  # fmt: skip
    check.add_argument("--file", type=Path, help="an export or a spool instead of the database")
    out = commands.add_parser("export", help="rows as JSON lines")
    out.add_argument("--since", type=_day, default="0001-01-01", help="a day or time, UTC")
    out.add_argument(
        "--until", type=_day, default="9999-01-01", help="a day or time, UTC; not included"
    )
    out.add_argument("--out", type=Path, required=True)
    closed = commands.add_parser("seal", help="export older rows, then delete them from the table")
    closed.add_argument("--before", type=_day, required=True, help="a day or time, UTC")
    closed.add_argument("--out", type=Path, required=True)
    schema = commands.add_parser("upgrade", help="bring the database's schema to this version's")
    schema.add_argument("--grant", metavar="ROLE", help="that the service runs as; PostgreSQL")
    return parser


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Status 0: well; 1: the chain is broken; 2: something could not be read or written."""
    given = _arguments().parse_args(arguments)
    try:
        settings = Settings()
        keys = read_keys(given.key_file or settings.audit_key_file)
        engine = database.connect(given.database_url or settings.database_url)
        try:
            _run(given, engine, keys)
        finally:
            engine.dispose()
    except Broken as broken:
        print(f"broken: {broken}", file=sys.stderr)
        sys.exit(1)
    except (*FAILURES, ValueError) as error:
        message = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        print(kind + message, file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _run(given: argparse.Namespace, engine: sa.Engine, keys: Sequence[Key]) -> None:
    """Errors: Broken, FAILURES, ValueError."""
    if (
        given.command != "upgrade"
        and not getattr(given, "file", None)
        and not sa.inspect(engine).has_table(TABLE.name)
    ):
        raise ValueError(
            "this database has no audit: the service's first start makes one, or "
            "`python -m service.audit upgrade`"
        )
    match given.command:
        case "verify":
            rows = rows_in(given.file) if given.file else rows_of(engine)
            anchors = read_anchors(given.anchor)
            _tell(verify(rows, keys, anchors, excerpt=bool(given.file)), keys)
        case "export":
            n, sha256 = export(rows_between(engine, given.since, given.until), given.out)
            print(f"{n} rows, SHA-256 of the file {sha256}")
        case "seal":
            n, sha256 = seal(engine, keys, given.before, given.out)
            print(f"{n} rows sealed, SHA-256 of the file {sha256}" if n else "nothing is older")
        case "upgrade":
            database.upgrade(engine)
            if given.grant:
                grant(engine, given.grant)
            print("the schema is this version's")


def _tell(report: Report, keys: Sequence[Key]) -> None:
    if not report.n_rows:
        print("whole: no rows yet")
        return
    print(f"whole: rows {report.first} to {report.head.seq}, {report.n_anchors} anchors met")
    for i, n in sorted(report.by_key.items()):
        named = "no key" if keys[i] is None else f"key {i + 1} of {len(keys)}"
        print(f"{n} rows under {named}")
    print(f"anchor {report.head.seq}:{report.head.hash}")
