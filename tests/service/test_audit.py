"""Every answer of a running service has its row, which says what it must and no more."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ecg.record import Record
from service import database
from service.audit import commands
from service.audit.chain import Row
from service.audit.trail import wanted
from service.audit.verifying import verify
from service.settings import Settings
from tests.conftest import PTB_XL, running_service, wfdb_files
from tests.ecg import fake_generator
from tests.service.bodies import as_json, as_npz, as_parts

Rows = Callable[[], list[Row]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audited")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[running_service]:
    store = folder / "store"
    shutil.copytree(Settings().models_store, store, ignore=shutil.ignore_patterns("ldm"))
    fake_generator.store(store / "ldm")
    settings = {
        "ECG_AUDIT": "on",
        "ECG_DATABASE_URL": f"sqlite:///{folder}/audit.sqlite",
        "ECG_MODELS_STORE": str(store),
        "ECG_MAX_BODY_MIB": "1",
        "ECG_TIMEOUT_S": "5",
        "ECG_WORKERS": "1",
    }
    with running_service(folder, **settings) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: running_service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    def read() -> list[Row]:
        engine = database.connect(f"sqlite:///{folder}/audit.sqlite")
        found = list(commands.rows_of(engine))
        engine.dispose()
        return found

    return read


def row_of(answer: httpx.Response, rows: Rows) -> Row:
    """The answer's only row."""
    (row,) = (row for row in rows() if row.id == answer.headers["x-request-id"])
    return row


def test_a_row_says_who_asked_what_when_of_which_model(
    client: httpx.Client, record: Record, rows: Rows
) -> None:
    body = as_npz(record)
    answer = client.post("/classify", content=body)
    row = row_of(answer, rows)
    assert (row.caller, row.action, row.outcome, row.times) == ("open", "classify", "200", 1)
    assert row.input_sha256 == hashlib.sha256(body).hexdigest()
    assert row.model_sha256 == answer.json()["model"]["sha256"]
    when = time.strptime(row.time, f"%Y-%m-%dT%H:%M:%S.{row.time[20:23]}+00:00")
    assert abs(time.mktime((*when[:8], 0)) - time.mktime((*time.gmtime()[:8], 0))) < 60


ASKED = {
    "an unknown body": ("POST", "/classify", b"nonsense", "415 unknown-format"),
    "a broken body": ("POST", "/classify", b'{"sig": [[1, 2', "400 unreadable"),
    "a body that is too large": ("POST", "/classify", bytes(2**20 + 1), "413 too-large"),
    "a print of nonsense": ("POST", "/print", b"nonsense", "415 unknown-format"),
    "a print of no record": ("POST", "/print?record=-1", b"", "422 bad-query"),
    "a strip of nonsense": ("POST", "/strip", b"nonsense", "415 unknown-format"),
    "an ECG": ("POST", "/synthesize", b'{"seed": 1}', "200"),
    "no such ECG": ("POST", "/synthesize", b'{"n": 100}', "422 unservable"),
    "the models": ("GET", "/models", b"", "200"),
    "a wrong method": ("GET", "/classify", b"", "405 wrong-method"),
}


@pytest.mark.parametrize("what", ASKED)
def test_every_outcome_has_its_row(client: httpx.Client, rows: Rows, what: str) -> None:
    method, url, body, outcome = ASKED[what]
    answer = client.request(method, url, content=body)
    row = row_of(answer, rows)
    assert (row.action, row.outcome) == (url[1:].split("?")[0], outcome)
    if outcome not in ("413 too-large", "422 bad-query", "405 wrong-method"):
        assert row.input_sha256 == hashlib.sha256(body).hexdigest()


def test_the_hash_is_of_the_body_as_received(
    client: httpx.Client, record: Record, rows: Rows
) -> None:
    parts = as_parts(wfdb_files(PTB_XL[0]))
    request = client.build_request("POST", "/print", files=parts)
    answer = client.send(request)
    assert answer.status_code == 200
    assert row_of(answer, rows).input_sha256 == hashlib.sha256(request.read()).hexdigest()


def test_a_picture_that_is_explained_names_the_model(
    client: httpx.Client, record: Record, rows: Rows
) -> None:
    body = as_npz(record)
    plain = row_of(client.post("/print", content=body), rows)
    explained = row_of(client.post("/print?explain=1", content=body), rows)
    assert plain.model_sha256 is None
    assert explained.outcome == "200" and explained.model_sha256


def test_one_who_hangs_up_and_one_who_is_too_slow_have_their_rows(
    service: running_service, rows: Rows
) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    before = len(rows())
    with socket.create_connection(("127.0.0.1", service.port)) as gone:
        gone.sendall(head + b"some")
    with socket.create_connection(("127.0.0.1", service.port)) as slow:
        slow.sendall(head + b"little")
        slow.settimeout(20)
        assert b" 503 " in slow.recv(4096)
    deadline = time.monotonic() + 10
    while len(found := rows()[before:]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {row.outcome for row in found} == {"499 hung-up", "503 deadline"}
    received = {row.outcome: row.input_sha256 for row in found}
    assert received["499 hung-up"] == hashlib.sha256(b"some").hexdigest()
    assert received["503 deadline"] == hashlib.sha256(b"little").hexdigest()


def test_no_patient_is_in_the_audit(client: httpx.Client, record: Record, folder: Path) -> None:
    body = json.dumps({**json.loads(as_json(record)), "record_id": "PLANTED-Patient"}).encode()
    assert client.post("/classify?name=PLANTED", content=body).status_code == 200
    client.post("/classify?PLANTED=1", content=body[:-5], headers={"User-Agent": "PLANTED"})
    for file in folder.glob("audit.sqlite*"):
        assert b"PLANTED" not in file.read_bytes()


def test_a_flood_of_refusals_is_summed(client: httpx.Client, rows: Rows) -> None:
    before = len(rows())
    answers = [client.put("/classify") for _ in range(100)]
    assert {a.status_code for a in answers} == {405}
    deadline = time.monotonic() + 20
    while sum(row.times for row in rows()[before:]) < 100 and time.monotonic() < deadline:
        time.sleep(0.2)
    found = rows()[before:]
    assert sum(row.times for row in found) == 100
    assert len(found) < 40
    assert {row.outcome for row in found} == {"405 wrong-method"}


def test_what_is_not_asked_of_a_model_is_not_audited(client: httpx.Client, rows: Rows) -> None:
    before = len(rows())
    for path in ("/", "/readyz", "/metrics", "/docs", "/never/seen"):
        client.get(path)
    assert len(rows()) == before


def test_while_the_database_is_away_nothing_is_answered_and_the_balancer_knows(
    client: httpx.Client, record: Record, rows: Rows, folder: Path
) -> None:
    before = len(rows())
    held = sqlite3.connect(folder / "audit.sqlite", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    assert client.get("/readyz").status_code == 200
    answer = client.post("/classify", content=as_npz(record), timeout=60)
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/unrecorded"
    assert int(answer.headers["retry-after"]) >= 1
    assert client.get("/readyz").status_code == 503
    started = time.monotonic()
    assert client.post("/classify", content=as_npz(record)).status_code == 503
    assert time.monotonic() - started < 2, "what is known to be away is not waited for"
    assert client.get("/livez").status_code == 200
    held.close()
    deadline = time.monotonic() + 30
    while client.get("/readyz").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert client.post("/classify", content=as_npz(record)).status_code == 200
    deadline = time.monotonic() + 30
    while len(rows()) < before + 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    found = {row.outcome: row.times for row in rows()[before:]}
    assert found == {"200": 1, "503 unrecorded": 2}


def test_at_the_end_the_chain_is_whole(service: running_service, rows: Rows) -> None:
    text = httpx.get(f"{service.url}/metrics").text
    assert verify(rows()).n_rows > 10
    for name in ("ecg_audit_rows_total", "ecg_audit_seconds_count", "ecg_audit_head"):
        assert f"\n{name}" in text


def test_settings_with_which_no_worker_could_start_end_the_service_with_a_message(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    key.write_text("short")
    with pytest.raises(RuntimeError, match="fewer than 32 characters"):
        with running_service(tmp_path, ECG_AUDIT="on", ECG_AUDIT_KEY_FILE=str(key)):
            pass


@pytest.mark.parametrize(
    ("host", "family", "elsewhere"),
    [
        ("127.0.0.1", socket.AF_INET, False),
        ("::1", socket.AF_INET6, False),
        ("0.0.0.0", socket.AF_INET, True),
    ],
)
def test_the_audit_is_on_where_the_service_can_be_reached_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch, host: str, family: socket.AddressFamily, elsewhere: bool
) -> None:
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        monkeypatch.setattr(sys, "argv", ["worker", "--fd", str(listening.fileno())])
        assert wanted(Settings(audit="auto")) is elsewhere
        assert wanted(Settings(audit="on")) and not wanted(Settings(audit="off"))


def test_a_listener_that_is_not_known_counts_as_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    for argv in (["worker"], ["worker", "--fd"], ["worker", "--fd", "9999"]):
        monkeypatch.setattr(sys, "argv", argv)
        assert wanted(Settings(audit="auto"))
