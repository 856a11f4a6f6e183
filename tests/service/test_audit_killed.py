"""Killed, stopped, frozen: no answered request lacks its row, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from ecg.record import Record
from service import database
from service.audit import commands
from service.audit.chain import Row, read_keys
from service.audit.trail import record_now
from service.audit.verifying import verify
from tests.conftest import ROOT, running_service
from tests.service.bodies import as_npz
from tests.service.postgres import DATABASES, Postgres, needs_postgres

pytestmark = pytest.mark.slow
KEY = "0123456789abcdef" * 4


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.sqlite"
    return request.getfixturevalue("postgres").url


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    key = tmp_path / "key"
    key.write_text(KEY)
    return {
        "ECG_AUDIT": "on",
        "ECG_AUDIT_KEY_FILE": str(key),
        "ECG_AUDIT_SPOOL": str(tmp_path / "spool"),
        "ECG_WORKERS": "2",
        "ECG_ACCESS_LOG": "false",
    }


def rows(url: str) -> list[Row]:
    engine = database.connect(url)
    found = list(commands.rows_of(engine))
    engine.dispose()
    return found


def whole(url: str) -> list[Row]:
    """The rows, their chain verified, no id twice."""
    found = rows(url)
    verify(found, [KEY.encode()])
    assert len({row.id for row in found}) == len(found)
    return found


class Load:
    """Clients that post one after the other, and what they were answered: by request id."""

    def __init__(self, body: bytes, *urls: str, clients: int = 16) -> None:
        self._body, self._urls, self._clients = body, urls, clients
        self.answered: dict[str, int] = {}
        self._over = False

    async def _client(self, url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while not self._over:
                try:
                    answer = await client.post("/classify", content=self._body)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
                    continue
                self.answered[answer.headers["x-request-id"]] = answer.status_code
                if answer.status_code == 503:
                    await asyncio.sleep(0.1)

    def during(self, what: Callable[[], None]) -> Counter[int]:
        """How many answers there were of each status, while and after `what` was done."""

        async def all_of_it() -> None:
            n = range(self._clients)
            clients = [
                asyncio.create_task(self._client(self._urls[i % len(self._urls)])) for i in n
            ]
            await asyncio.to_thread(what)
            self._over = True
            await asyncio.gather(*clients)

        asyncio.run(all_of_it())
        return Counter(self.answered.values())

    def with_status(self, status: int) -> set[str]:
        return {request for request, found in self.answered.items() if found == status}

    def until(self, more: int) -> None:
        """Until so many more have been answered 200."""
        goal = len(self.with_status(200)) + more
        deadline = time.monotonic() + 90
        while len(self.with_status(200)) < goal:
            assert time.monotonic() < deadline, Counter(self.answered.values())
            time.sleep(0.05)


def kill(service: running_service) -> None:
    """All of the service's processes at once, without a last word."""
    pids = [*service.worker_pids(), service.process.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that none is started anew
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    service.process.wait()


@pytest.mark.parametrize("url", DATABASES, indirect=True)
def test_killed_under_load_no_answered_request_lacks_its_row(
    tmp_path: Path, record: Record, settings: dict[str, str], url: str
) -> None:
    settings["ECG_DATABASE_URL"] = url
    for _ in range(2):  # the chain goes on where it was cut off
        with running_service(tmp_path, **settings) as service:
            load = Load(as_npz(record), service.url)

            def killed(load: Load = load, service: running_service = service) -> None:
                load.until(300)
                kill(service)

            assert load.during(killed)[200] >= 300
        recorded = {row.id: row.outcome for row in whole(url)}
        assert {i: recorded.get(i) for i in load.answered} == dict.fromkeys(load.answered, "200")


@pytest.mark.parametrize("url", DATABASES, indirect=True)
def test_a_row_tampered_with_after_real_load_is_found_by_the_command(
    tmp_path: Path, record: Record, settings: dict[str, str], url: str
) -> None:
    settings["ECG_DATABASE_URL"] = url
    with running_service(tmp_path, **settings) as service:
        load = Load(as_npz(record), service.url)
        load.during(lambda: load.until(100))
    command = [sys.executable, "-m", "service.audit", "verify", "--anchor", str(service.log)]
    environment = {**os.environ, **settings}

    def run() -> tuple[int, str]:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    status, said = run()
    assert status == 0, said
    assert re.search(r"whole: rows 1 to \d+, [1-9]\d* anchors met", said)
    disable = {
        "sqlite": "DROP TRIGGER audit_no_update",
        "postgresql": "ALTER TABLE audit DISABLE TRIGGER audit_no_change",
    }
    engine = database.connect(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(disable[engine.dialect.name])
        connection.exec_driver_sql("UPDATE audit SET caller = 'key:other' WHERE seq = 42")
        connection.commit()
    engine.dispose()
    status, said = run()
    assert (status, said.startswith("broken: row 42: its hash does not fit")) == (1, True)


@pytest.mark.parametrize("url", DATABASES, indirect=True)
def test_two_services_on_one_database_keep_one_chain(
    tmp_path: Path, record: Record, settings: dict[str, str], url: str
) -> None:
    settings["ECG_DATABASE_URL"] = url
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with (
        running_service(folders[0], **settings) as one,
        running_service(folders[1], **settings) as other,
    ):
        load = Load(as_npz(record), one.url, other.url)
        load.during(lambda: load.until(400))
    recorded = {row.id for row in whole(url)}
    assert load.with_status(200) <= recorded


@needs_postgres
@pytest.mark.parametrize("how", ["stopped", "frozen"])
@pytest.mark.parametrize("mode", ["refuse", "spool"])
def test_a_database_that_goes_and_comes_back_loses_and_doubles_nothing(
    tmp_path: Path,
    record: Record,
    settings: dict[str, str],
    postgres: Postgres,
    mode: str,
    how: str,
) -> None:
    settings |= {"ECG_DATABASE_URL": postgres.url, "ECG_AUDIT_WHEN_AWAY": mode}
    with running_service(tmp_path, **settings) as service:
        load = Load(as_npz(record), service.url)

        def gone_for_a_while() -> None:
            load.until(100)
            before = len(load.answered)
            postgres.stop() if how == "stopped" else postgres.freeze(True)
            if mode == "spool":
                load.until(300)
                assert httpx.get(f"{service.url}/readyz").status_code == 200
            else:
                wait(lambda: len(load.with_status(503)) > 20)
                wait(lambda: httpx.get(f"{service.url}/readyz").status_code == 503)
            assert len(load.answered) > before
            postgres.start() if how == "stopped" else postgres.freeze(False)
            wait(lambda: httpx.get(f"{service.url}/readyz").status_code == 200)
            load.until(100)

        statuses = load.during(gone_for_a_while)
        wait(lambda: load.with_status(200) <= {row.id for row in rows(postgres.url)})
        wait(lambda: not list((tmp_path / "spool").glob("*")))
    found = whole(postgres.url)
    assert load.with_status(200) <= {row.id for row in found}
    if mode == "spool":
        assert set(statuses) == {200}
        assert all(row.times == 1 for row in found)
    else:
        summed = Counter({row.outcome: 0 for row in found})
        for row in found:
            summed[row.outcome] += row.times
        assert summed["503 unrecorded"] == statuses[503] > 20


@needs_postgres
def test_what_a_killed_service_had_spooled_is_in_the_database_after_its_next_start(
    tmp_path: Path, record: Record, settings: dict[str, str], postgres: Postgres
) -> None:
    settings |= {"ECG_DATABASE_URL": postgres.url, "ECG_AUDIT_WHEN_AWAY": "spool"}
    with running_service(tmp_path, **settings) as service:
        load = Load(as_npz(record), service.url)

        def stopped_and_killed() -> None:
            load.until(50)
            postgres.stop()
            load.until(200)
            kill(service)

        load.during(stopped_and_killed)
    assert list((tmp_path / "spool").glob("*.jsonl"))
    with running_service(tmp_path, **settings) as service:  # the database is still away
        more = Load(as_npz(record), service.url)
        more.during(lambda: more.until(50))
        postgres.start()
        wait(lambda: not list((tmp_path / "spool").glob("*")))
    recorded = {row.id for row in whole(postgres.url)}
    assert load.with_status(200) | more.with_status(200) <= recorded


@needs_postgres
def test_the_service_needs_no_right_but_to_read_and_to_append(
    tmp_path: Path, record: Record, settings: dict[str, str], postgres: Postgres
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as owner:
        owner.execute("CREATE ROLE ecg LOGIN")
    command = ["--database-url", postgres.url, "upgrade", "--grant", "ecg"]
    with pytest.raises(SystemExit, match="0"):
        commands.main(command)
    settings["ECG_DATABASE_URL"] = postgres.url_of("ecg")
    with running_service(tmp_path, **settings) as service:
        load = Load(as_npz(record), service.url)
        load.during(lambda: load.until(20))
    assert load.with_status(200) <= {row.id for row in whole(postgres.url)}
    for statement in (
        "UPDATE audit SET caller = 'x'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "INSERT INTO audit_sealed VALUES (1)",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "DROP TABLE audit",
    ):
        with psycopg.connect(postgres.url_of("ecg")) as role:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(statement)
    for statement in ("UPDATE audit SET caller = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with psycopg.connect(postgres.url) as owner:
            with pytest.raises(psycopg.errors.RaiseException, match="only appended"):
                owner.execute(statement)


@needs_postgres
def test_older_rows_are_sealed_in_postgresql_too(
    tmp_path: Path, postgres: Postgres, settings: dict[str, str]
) -> None:
    engine = database.connect(postgres.url)
    database.upgrade(engine)
    keys = read_keys(Path(settings["ECG_AUDIT_KEY_FILE"]))
    for i in range(30):
        record_now(engine, "keys.create", about=f"key:{i}", keys=keys)
    n, _ = commands.seal(engine, keys, "9999", tmp_path / "sealed.jsonl")
    assert n == 30
    record_now(engine, "keys.revoke", about="key:1", keys=keys)
    engine.dispose()
    assert [row.seq for row in whole(postgres.url)] == [31, 32]
    lines = (tmp_path / "sealed.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["about"] for line in lines] == [f"key:{i}" for i in range(30)]


@needs_postgres
def test_first_starts_at_once_make_one_schema_in_postgresql(postgres: Postgres) -> None:
    code = f"from service import database; database.upgrade(database.connect('{postgres.url}'))"
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4


def wait(true: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
