"""python -m service.keys, end to end, and what the database holds of a key."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service import keys
from service.access import keyring
from service.database import TABLES, connect, upgrade
from tests.conftest import ROOT


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.keys", *arguments],
        cwd=ROOT,
        env={**os.environ, "ECG_DATABASE_URL": f"sqlite:///{folder}/keys.sqlite"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    url = f"sqlite:///{tmp_path}/keys.sqlite"
    monkeypatch.setenv("ECG_DATABASE_URL", url)
    engine = connect(url)
    upgrade(engine)
    return engine


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert keys.main(["create", *arguments]) == 0
    return capsys.readouterr().out.strip()


def test_a_key_is_told_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    done = run(tmp_path, "create", "--name", "MUSE bridge", "--scopes", "classify,print")
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    assert re.fullmatch(r"ecg_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
    secret = key[17:]
    assert secret not in done.stderr
    kept = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert secret.encode() not in kept
    (row,) = sqlite3.connect(tmp_path / "keys.sqlite").execute("SELECT id, sha256 FROM keys")
    assert row == (key[4:16], keyring._hash(secret))
    listed = run(tmp_path, "list").stdout
    assert "MUSE bridge" in listed and "classify,print" in listed and "valid" in listed
    assert secret not in listed


def test_keys_are_listed_revoked_and_told_apart(
    engine: sa.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    lasting = made(capsys, "--name", "a", "--scopes", "classify", "--expires", "90d")
    limited = made(
        capsys, "--name", "b", "--scopes", "page, models", "--per-minute", "60", "--at-once", "4"
    )
    assert keys.main(["revoke", limited[4:16]]) == 0
    assert keys.main(["revoke", limited[4:16]]) == 1, "there is nothing left to revoke"
    assert keys.main(["revoke", "nothing"]) == 1
    capsys.readouterr()
    assert keys.main(["list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows[lasting[4:16]].split()[1] == "valid"
    assert re.search(r"revoked .* 60 +4 +models,page +b$", rows[limited[4:16]])
    found = {key.id: key for key in keyring.all_of(engine)}[lasting[4:16]]
    assert found.expires
    assert abs(found.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)


def test_a_rotated_key_opens_for_a_while_and_its_successor_may_the_same(
    engine: sa.Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    old = made(capsys, "--name", "a", "--scopes", "classify,models", "--per-minute", "9")
    assert keys.main(["rotate", old[4:16], "--grace", "12h"]) == 0
    new = capsys.readouterr().out.strip()
    before, after = keyring.all_of(engine)
    assert (before.id, after.id) == (old[4:16], new[4:16])
    assert after.opened_by(new[17:]) and not after.opened_by(old[17:])
    for what in ("name", "scopes", "per_minute", "at_once"):
        assert getattr(before, what) == getattr(after, what)
    assert before.expires and after.expires is None
    now = datetime.now(UTC)
    assert before.state(now) == "valid"
    assert before.state(now + timedelta(hours=13)) == "expired"
    assert keys.main(["rotate", "nothing"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--name", "a", "--scopes", "all"], "no scope 'all'; there are classify, docs"),
        (["--name", "a", "--scopes", ""], "no scope ''"),
        (["--name", "", "--scopes", "classify"], "1 to 200 printable"),
        (["--name", "a\nb", "--scopes", "classify"], "printable"),
        (["--name", "a", "--scopes", "classify", "--expires", "soon"], "90d"),
        (["--name", "a", "--scopes", "classify", "--expires", "0d"], "90d"),
        (["--name", "a", "--scopes", "classify", "--per-minute", "0"], "whole number"),
    ],
)
def test_what_makes_no_sense_is_refused_and_makes_no_key(
    engine: sa.Engine, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        keys.main(["create", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert keyring.all_of(engine) == []


def test_a_database_that_cannot_be_used_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in ("postgresql://ecg:hunter2@127.0.0.1:1/ecg", "mysql://ecg:hunter2@host/ecg"):
        monkeypatch.setenv("ECG_DATABASE_URL", url)
        assert keys.main(["list"]) == 1
        said = capsys.readouterr().err
        assert "ECG_DATABASE_URL could not be used" in said and "hunter2" not in said


def test_the_table_is_what_the_migrations_make(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        found = compare_metadata(context, TABLES)
    assert [change for change in found if "keys" in str(change)] == []
