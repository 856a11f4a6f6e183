"""The chain: every kind of tampering is found and named; a chain that is whole passes."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from service import database
from service.audit import commands
from service.audit.chain import TABLE, Chain, Entry, Key, canonical, link, new_entry, read_keys
from service.audit.trail import record_now
from service.audit.verifying import Broken, verify
from service.database import TABLES

KEY = b"0123456789abcdef0123456789abcdef"


def entries(n: int, action: str = "classify") -> list[Entry]:
    return [new_entry("key:test", action, "200", input_sha256="a" * 64) for _ in range(n)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.sqlite"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = database.connect(f"sqlite:///{path}")
    database.upgrade(engine)
    yield engine
    engine.dispose()


def filled(engine: sa.Engine, n: int = 20, key: Key = None) -> str:
    """The chain's end as an anchor."""
    chain = Chain(engine, key)
    head = chain.append(entries(n))
    chain.close()
    return f"{head.seq}:{head.hash}"


def tampered(path: Path, *statements: str) -> None:
    """What whoever owns the database can do: without the triggers, and with them again."""
    with sqlite3.connect(path) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        found = triggers.fetchall()
        for name, _ in found:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
        for _, sql in found:
            db.execute(sql)
    db.close()


TAMPERINGS = {
    "altered": (["UPDATE audit SET caller = 'key:other' WHERE seq = 7"], "row 7: its hash"),
    "altered, of another type": (["UPDATE audit SET about = '' WHERE seq = 7"], "row 7: its hash"),
    "a count": (["UPDATE audit SET times = 2 WHERE seq = 20"], "row 20: its hash"),
    "one missing": (["DELETE FROM audit WHERE seq = 7"], "row 7 is missing"),
    "several missing": (
        ["DELETE FROM audit WHERE seq BETWEEN 7 AND 9"],
        "rows 7 to 9 are missing",
    ),
    "the first missing": (["DELETE FROM audit WHERE seq < 3"], "rows before row 3 are missing"),
    "missing and closed up": (
        ["DELETE FROM audit WHERE seq = 20", "UPDATE audit SET seq = 20 WHERE seq = 19"],
        "row 19 is missing",
    ),
    "missing and moved up": (
        ["DELETE FROM audit WHERE seq = 7"]
        + [f"UPDATE audit SET seq = {i - 1} WHERE seq = {i}" for i in range(8, 21)],
        "row 7: does not follow row 6",
    ),
    "inserted": (
        [
            "INSERT INTO audit SELECT 21, time, 'new', caller, action, about, input_sha256, "
            "model_sha256, outcome, times, hash, hash FROM audit WHERE seq = 20"
        ],
        "row 21: its hash",
    ),
    "inserted before the first": (
        [
            "INSERT INTO audit SELECT 0, time, 'new', caller, action, about, input_sha256, "
            "model_sha256, outcome, times, previous, previous FROM audit WHERE seq = 1"
        ],
        "row 0",
    ),
    "reordered": (
        [
            "UPDATE audit SET seq = 100 WHERE seq = 7",
            "UPDATE audit SET seq = 7 WHERE seq = 8",
            "UPDATE audit SET seq = 8 WHERE seq = 100",
        ],
        "row 7: does not follow row 6",
    ),
}


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_each_kind_of_tampering_is_found_and_named(
    engine: sa.Engine, path: Path, kind: str
) -> None:
    filled(engine)
    assert verify(commands.rows_of(engine)).n_rows == 20
    statements, says = TAMPERINGS[kind]
    tampered(path, *statements)
    with pytest.raises(Broken, match=says):
        verify(commands.rows_of(engine))


def rewritten(path: Path, seq: int, key: Key) -> None:
    """Alter a row, and make all later hashes fit again."""
    engine = database.connect(f"sqlite:///{path}")
    rows = list(commands.rows_of(engine))
    engine.dispose()
    changed = [r.entry._replace(caller="x") if r.seq == seq else r.entry for r in rows]
    made = link(changed, commands.Head(0, "0" * 64), key)
    tampered(
        path,
        *(
            f"UPDATE audit SET caller = '{r.caller}', previous = '{r.previous}', hash = '{r.hash}' "
            f"WHERE seq = {r.seq}"
            for r in made
        ),
    )


def test_without_a_key_a_chain_written_anew_is_found_by_an_anchor_alone(
    engine: sa.Engine, path: Path
) -> None:
    anchor = filled(engine)
    rewritten(path, 7, None)
    assert verify(commands.rows_of(engine)).n_rows == 20
    with pytest.raises(Broken, match="row 20: the anchor knows it with another hash"):
        verify(commands.rows_of(engine), anchors=commands.read_anchors([anchor]))


def test_with_a_key_nobody_else_can_write_the_chain_anew(engine: sa.Engine, path: Path) -> None:
    filled(engine, key=KEY)
    assert verify(commands.rows_of(engine), [KEY]).by_key == {0: 20}
    for other in (None, KEY[::-1]):
        rewritten(path, 7, other)
        with pytest.raises(Broken, match="row 1: its hash"):
            verify(commands.rows_of(engine), [KEY])


def test_keys_change_and_an_older_one_cannot_end_the_chain(engine: sa.Engine) -> None:
    newer = KEY[::-1]
    for key in (None, KEY, newer, KEY, newer):  # replicas do not restart at the same moment
        filled(engine, 5, key)
    assert verify(commands.rows_of(engine), [None, KEY, newer]).by_key == {0: 5, 1: 10, 2: 10}
    filled(engine, 1, KEY)
    with pytest.raises(Broken, match="row 26, the last one, is not under the newest key"):
        verify(commands.rows_of(engine), [None, KEY, newer])


def test_a_truncated_chain_is_found_by_an_anchor(engine: sa.Engine, path: Path) -> None:
    anchors = commands.read_anchors([filled(engine)])
    filled(engine)
    assert verify(commands.rows_of(engine), anchors=anchors).n_anchors == 1
    tampered(path, "DELETE FROM audit WHERE seq > 15")
    assert verify(commands.rows_of(engine)).n_rows == 15
    with pytest.raises(Broken, match="rows 16 to 20 are missing at the end"):
        verify(commands.rows_of(engine), anchors=anchors)
    tampered(path, "DELETE FROM audit")
    with pytest.raises(Broken, match="rows 1 to 20 are missing at the end"):
        verify(commands.rows_of(engine), anchors=anchors)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET caller = 'x' WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 3",
        "INSERT INTO audit SELECT 0, time, 'x', caller, action, about, input_sha256, "
        "model_sha256, outcome, times, previous, hash FROM audit WHERE seq = 3",
    ],
)
def test_the_database_itself_refuses_to_change_a_row(
    engine: sa.Engine, path: Path, statement: str
) -> None:
    filled(engine)
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="only appended"):
        db.execute(statement)
    db.close()
    assert verify(commands.rows_of(engine)).n_rows == 20


def test_a_row_is_hashed_as_the_documentation_says(engine: sa.Engine) -> None:
    filled(engine, 2, KEY)
    with engine.connect() as connection:
        first, second = connection.execute(sa.select(TABLE).order_by(TABLE.c.seq)).all()
    for row in (first, second):
        content = json.dumps(list(row)[:-1], ensure_ascii=False, separators=(",", ":")).encode()
        assert content == canonical(commands.Row(*row))
        assert row.hash == hmac.new(KEY, content, hashlib.sha256).hexdigest()
    assert (first.previous, second.previous) == ("0" * 64, first.hash)


def test_what_a_token_may_hold_does_not_break_the_chain(engine: sa.Engine) -> None:
    for caller in ("oidc:a\x00b@x", "oidc:\ud800@x", "ü" * 400, "a\nb", '"\\'):
        record_now(engine, "keys.create", about="key:x", caller=caller)
    assert verify(commands.rows_of(engine)).n_rows == 5


def test_rows_that_are_there_already_are_not_doubled(engine: sa.Engine) -> None:
    chain = Chain(engine)
    some = entries(5)
    chain.append(some[:3])
    chain.append(some, again=True)
    chain.append(some, again=True)
    chain.close()
    assert [row.id for row in commands.rows_of(engine)] == [entry.id for entry in some]
    verify(commands.rows_of(engine))


def test_many_writers_make_one_chain(path: Path, engine: sa.Engine) -> None:
    def write() -> None:
        own = database.connect(f"sqlite:///{path}")
        chain = Chain(own)
        for _ in range(20):
            chain.append(entries(3))
        chain.close()
        own.dispose()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(commands.rows_of(engine)).n_rows == 4 * 20 * 3


def test_a_chain_longer_than_a_page_is_walked(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PAGE", 7)
    filled(engine, 21)
    assert verify(commands.rows_of(engine)).n_rows == 21


def test_the_tables_are_those_of_the_migrations(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), TABLES)
    ours = {TABLE.name, "audit_sealed"}
    assert not [d for d in differences if any(getattr(x, "name", "") in ours for x in d[1:])]


def run(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> tuple[int, str]:
    """The command's status, and all that it said."""
    with pytest.raises(SystemExit) as ended:
        commands.main(["--database-url", f"sqlite:///{path}", *arguments])
    said = capsys.readouterr()
    return int(str(ended.value.code)), said.out + said.err


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], path: Path) -> Run:
    return lambda *arguments: run(capsys, path, *arguments)


def test_verify_says_what_it_found(engine: sa.Engine, path: Path, command: Run) -> None:
    anchor = filled(engine)
    log = path.with_suffix(".log")
    seq, sha256 = anchor.split(":")
    event = json.dumps({"time": "…", "event": "audit head", "seq": int(seq), "hash": sha256})
    log.write_text(f"a line\npod-1 {event}\n")
    status, said = command("verify", "--anchor", anchor, "--anchor", str(log))
    assert (status, said.splitlines()[-1]) == (0, f"anchor {anchor}")
    assert "whole: rows 1 to 20, 1 anchors met" in said
    tampered(path, "UPDATE audit SET outcome = '200' || seq WHERE seq = 11")
    status, said = command("verify")
    assert status == 1
    assert said.startswith("broken: row 11: its hash")
    log.write_text("nothing of the kind\n")
    status, said = command("verify", "--anchor", str(log))
    assert status == 2 and "holds no SEQ:HASH" in said


def test_verify_of_what_is_no_database_is_status_2(path: Path, command: Run) -> None:
    path.write_bytes(b"not a database, but long enough to be read as one" * 40)
    assert command("verify")[0] == 2


def test_an_export_is_a_piece_of_the_chain_and_can_be_verified(
    engine: sa.Engine, path: Path, command: Run
) -> None:
    filled(engine, 5)
    tampered(path, "UPDATE audit SET time = time")
    out = path.with_suffix(".jsonl")
    assert command("export", "--since", "2020-01-01", "--out", str(out))[0] == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert len(out.read_text().splitlines()) == 5
    assert command("verify", "--file", str(out))[0] == 0
    out.write_bytes(out.read_bytes().replace(b'"200"', b'"201"', 1))
    status, said = command("verify", "--file", str(out))
    assert (status, "row 1: its hash" in said) == (1, True)
    assert command("export", "--out", str(out))[0] == 2, "nothing is overwritten"


def test_older_rows_are_sealed_and_the_rest_still_verifies(
    engine: sa.Engine, path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_DELETED", 3)  # several transactions
    old = [entry._replace(time="2020-05-05T00:00:00.000+00:00") for entry in entries(10)]
    chain = Chain(engine)
    chain.append(old)
    chain.close()
    anchor = filled(engine, 5)
    out = path.with_suffix(".jsonl")
    status, said = command("seal", "--before", "2021-01-01", "--out", str(out))
    assert status == 0 and said.startswith("10 rows sealed")
    rows = list(commands.rows_of(engine))
    assert (rows[0].seq, rows[-1].seq, rows[-1].action) == (11, 16, "audit.seal")
    assert rows[-1].input_sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert command("verify", "--anchor", anchor)[0] == 0
    assert command("verify", "--file", str(out))[0] == 0
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="only appended"):
        db.execute("DELETE FROM audit WHERE seq = 11")
    db.close()
    tampered(path, "DELETE FROM audit WHERE seq = 11")
    status, said = command("verify")
    assert (status, "rows before row 12 are missing" in said) == (1, True)


def test_a_seal_needs_a_chain_that_is_whole(engine: sa.Engine, path: Path, command: Run) -> None:
    filled(engine)
    tampered(path, "UPDATE audit SET outcome = 'x' WHERE seq = 20")
    out = path.with_suffix(".jsonl")
    assert command("seal", "--before", "2999-01-01", "--out", str(out))[0] == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "needs a key a line"),
        (b"short\n", "fewer than 32"),
        (KEY + b"\nnone\n", "only come first"),
        (KEY + b"\nnone\n" + KEY, "only come first"),
    ],
)
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_keys(file)


def test_two_first_starts_at_once_make_one_schema(path: Path) -> None:

    code = f"from service import database; database.upgrade(database.connect('sqlite:///{path}'))"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
