"""Planted patients: nothing of them is in an answer, a log, a metric, a trace, or on a disk.

Files of every format that the service reads or writes carry a patient who never was: whole, cut,
damaged and wrongly declared, to every endpoint of a real service, whatever goes wrong on the way.
What it then said, wrote and holds is searched. Each kind of leak is planted, too, so that the
search is known to find it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ecg.formats import _READERS, WRITERS, File
from ecg.record import Record
from ecg.store import CARD, WEIGHTS
from service.settings import Settings
from tests.conftest import running_service
from tests.ecg import fake_generator, fake_model
from tests.service.bodies import as_json, as_npz, as_parts, as_zip
from tests.service.leaks import HUSHED, KIND, LEAKS, OUTSIDE, SECRET
from tests.service.planted import PLANTS, Patient, Planted, damaged, found, planted, spelled
from tests.service.watching import Collector, Watch, apart

WRONG = ("fs=1e9", "fs=0.001&units=uV", "units=furlong", "leads=I", "fs=nan&leads=,,,")
ASKED = (
    "/classify",
    "/classify?explain=1",
    "/classify?format=fhir",
    "/print",
    "/print?explain=1",
    "/strip",
)


@contextlib.contextmanager
def watched(folder: Path, target: str = "service.bento:EcgDirenet", **more: str) -> Iterator[Watch]:
    """A service of two workers with everything on that could keep something: an audit, a database,
    traces to a collector."""
    with Collector() as collector:
        settings = {
            "ECG_WORKERS": "2",
            "ECG_AUDIT": "on",
            "ECG_DATABASE_URL": f"sqlite:///{folder}/state/state.sqlite",
            "ECG_TRACES": collector.url,
            "HOME": str(folder / "home"),
            **more,
        }
        (folder / "home").mkdir()
        with running_service(folder, target=target, within=apart(folder), **settings) as service:
            yield Watch(service, folder, collector)


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """The shipped classifier, a generator of kilobytes."""
    folder = tmp_path_factory.mktemp("watched")
    store = folder / "store"
    store.mkdir()
    (store / "prednet").symlink_to(Settings().models_store / "prednet")
    fake_generator.store(store / "ldm")
    with watched(folder, ECG_MODELS_STORE=str(store)) as watch:
        yield watch


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watch, Patient]]:
    """A service that leaks when it is asked to; the patient is that of an endpoint that fails."""
    folder, patient = tmp_path_factory.mktemp("leaking"), Patient.drawn()
    more = {"LEAK_IN_MODELS": patient.line, "ECG_GENERATOR": "none"}
    with watched(folder, "tests.service.leaking:EcgDirenet", **more) as watch:
        yield watch, patient


def headers_of(patient: Patient) -> dict[str, str]:
    """A client that tells the patient's name wherever HTTP has room for it."""
    line = urllib.parse.quote(patient.line)
    return {
        "X-Request-ID": patient.number,
        "X-Patient": line,
        "User-Agent": patient.given,
        "Referer": f"http://ward.example/{patient.given}",
        "Origin": f"http://{patient.mark}.example",
        "Cookie": f"patient={patient.number}; name={patient.given}",
        "traceparent": f"00-{patient.mark.encode().hex():0<32.32}-{1:016x}-01",
        "tracestate": f"{patient.mark}={patient.number}",
        "baggage": f"patient={patient.number}",
        "Accept": f"*/*, application/{patient.mark}",
        "Authorization": f"Bearer {patient.number}",
        "X-Forwarded-For": patient.number,
    }


def send(watch: Watch, client: httpx.Client, path: str, files: list[File], patient: Patient) -> int:
    """One file as the body; several, or one with a name, as parts. The status."""
    headers, forgiven = headers_of(patient), list(spelled(patient.record_id))
    forgiven.append(patient.record_id.encode())
    if len(files) == 1 and not files[0].name:
        answer = client.post(path, content=files[0].content, headers=headers)
    else:
        answer = client.post(path, files=as_parts(files), headers=headers)
    # A server may go on with the trace that the client began: that one's number is no word.
    watch.heard(f"POST {path}", answer, forgiven)
    return answer.status_code


def sweep(
    watch: Watch, record: Record, patient: Patient, n_cuts: int, n_changes: int
) -> dict[str, set[int]]:
    """Every planted file to every endpoint, and its damaged likes; statuses by format."""
    tasks: list[tuple[str, str, list[File]]] = []
    for name, ways in planted(record, patient).items():
        for i, one in enumerate(ways):
            tasks += variants(name, i, one, patient, n_cuts, n_changes)
    statuses: dict[str, set[int]] = {}
    with (
        httpx.Client(base_url=watch.service.url, timeout=120) as client,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        jobs = [
            (name, pool.submit(send, watch, client, path, files, patient))
            for name, path, files in tasks
        ]
        for name, job in jobs:
            statuses.setdefault(name, set()).add(job.result())
    return statuses


def variants(
    name: str, i: int, one: Planted, patient: Patient, n_cuts: int, n_changes: int
) -> Iterator[tuple[str, str, list[File]]]:
    files = list(one.files)
    line = urllib.parse.quote(patient.line)
    said = "?fs=100&units=mV" if name in ("csv", "apple") else ""
    mark = "&" if said else "?"
    every = ASKED if i == 0 else (ASKED[0], ASKED[1 + i % (len(ASKED) - 1)])
    for path in every:
        if said and "?" in path:
            yield name, f"{path}&{said[1:]}", files
        else:
            yield name, path + said, files
    yield name, f"/classify{said}{mark}patient={line}&{patient.number}={line}", files
    yield name, f"/classify?{WRONG[i % len(WRONG)]}&leads={line}", files
    yield name, f"/classify?fs={line}&units={line}", files
    named = [File(f.content, f"{patient.family}/{patient.number}-{f.name}") for f in files]
    yield name, f"/classify{said}", named
    yield name, "/classify", [*named, File(patient.line.encode(), f"{patient.given}.txt")]
    yield name, "/strip", [File(as_zip([*named, File(b"", f"{patient.given}.{name}")]))]
    for k, content in enumerate(damaged(files[0].content, n_cuts, n_changes, seed=i)):
        path = ASKED[k % len(ASKED)]
        yield name, path, [File(content, files[0].name), *files[1:]]


def test_every_format_has_its_plants() -> None:
    readers = {reader.__name__.rpartition(".")[2] for reader in _READERS}
    assert readers | set(WRITERS) == set(PLANTS), "plant a patient in files of the new format"


def test_every_planted_file_holds_the_patient(record: Record) -> None:
    patient = Patient.drawn()
    for name, ways in planted(record, patient).items():
        assert len(ways) >= 2, name
        for one in ways:
            held = b"".join(f.content + f.name.encode() for f in one.files)
            assert found(held, (*patient.words(), patient.mark)), f"{name}: {one.way}"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-be", "utf-32"])
def test_words_are_found_however_they_are_written(encoding: str) -> None:
    patient = Patient.drawn()
    around = os.urandom(1001)
    for word in patient.words():
        assert found(around + f"x{word}y".encode(encoding) + around, [word])
    assert found(urllib.parse.quote(patient.line).encode(), patient.words())
    assert found(json.dumps(patient.line).encode().hex().encode(), patient.words())
    assert not found(around, patient.words())


def test_nothing_of_a_planted_patient_is_left_anywhere(watch: Watch, record: Record) -> None:
    patient = Patient.drawn()
    statuses = sweep(watch, record, patient, n_cuts=2, n_changes=1)
    for name in PLANTS:
        assert 200 in statuses[name], f"no planted {name} was read"
        assert statuses[name] & {400, 413, 415, 422}, f"no planted {name} was refused"
        assert not statuses[name] & {500, 503}, name
    other_ways(watch, record, patient)
    assert not watch.leaks((*patient.words(), patient.record_id))
    log = watch.service.log.read_text()
    assert '"event":"request"' in log, "what is searched is there"
    assert watch.collector.bodies, "what is searched is there"
    home = [path for path in (watch.folder / "home").rglob("*") if path.is_file()]
    assert not home, "neither the service nor a library keeps anything for itself"
    for pid in watch.pids():
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (core,) = [line.split()[4] for line in limits if line.startswith("Max core file size")]
        assert pid == watch.service.process.pid or core in ("0", "1"), "its memory may be dumped"


@pytest.mark.slow
def test_nothing_is_left_of_many_damaged_files(watch: Watch, record: Record) -> None:
    for _ in range(3):
        patient = Patient.drawn()
        sweep(watch, record, patient, n_cuts=25, n_changes=25)
        assert not watch.leaks((*patient.words(), patient.record_id))


def other_ways(watch: Watch, record: Record, patient: Patient) -> None:
    """What is no file: URLs, methods, JSON for /synthesize, requests that are no HTTP."""
    line, headers = urllib.parse.quote(patient.line), headers_of(patient)
    order = {"n": 1, "seed": 7}
    with httpx.Client(base_url=watch.service.url, timeout=60) as client:
        for path in (
            f"/{line}",
            f"/patients/{patient.number}?name={line}",
            f"/classify/{patient.number}",
            f"/static/{line}.js",
            f"/models?name={line}",
            f"/docs/{patient.number}",
            f"/?{line}",
            f"/metrics?{line}",
            f"/livez/{patient.number}",
            "/models/",
        ):
            for method in ("GET", "POST", "DELETE", "OPTIONS", "PATCH", "HEAD"):
                watch.heard(f"{method} {path[:9]}", client.request(method, path, headers=headers))
        for query in (f"record={line}", f"start_s={patient.number}", f"explain={line}"):
            answer = client.post(f"/print?{query}", content=as_json(record), headers=headers)
            watch.heard("POST /print", answer)
        for query in (f"format={line}", f"explain={line}"):
            answer = client.post(f"/classify?{query}", content=as_json(record), headers=headers)
            watch.heard("POST /classify", answer)
        for body in (
            {**order, patient.family: patient.line},
            {**order, "statements": [patient.line]},
            {**order, "sex": patient.line},
            {**order, "age": patient.born["iso"]},
            {**order, "atrial_substrate": patient.given},
            {**order, "seed": patient.number},
            {patient.line: {patient.line: [patient.line]}},
            patient.line,
            [patient.line],
        ):
            answer = client.post("/synthesize", json=body, headers=headers)
            assert answer.status_code == 422, body
            watch.heard("POST /synthesize", answer)
        for accept in ("application/json", "application/x-npz", "text/csv", "application/zip"):
            more = {**headers, "Accept": f"{accept}, text/{patient.mark}"}
            answer = client.post("/synthesize", json=order, headers=more)
            assert answer.status_code == 200
            watch.heard(f"POST /synthesize {accept}", answer)
        more = {**headers, "Accept": f"image/{patient.mark}"}
        watch.heard("406", client.post("/synthesize", json=order, headers=more))
        for kind in (f"multipart/form-data; boundary={patient.mark}", f"text/{patient.mark}"):
            more = {**headers, "Content-Type": kind}
            answer = client.post("/classify", content=patient.line.encode(), headers=more)
            watch.heard(f"POST {kind}", answer)
        large = as_json(record, patient=patient.line) + b" " * (65 * 2**20)
        watch.heard("a large body", client.post("/classify", content=large, headers=headers))
    raw(watch, f"{patient.number} /{patient.number} HTTP/1.1\r\nHost: x\r\n\r\n")
    raw(watch, f"GET /{patient.given} HTTP/{patient.mark}\r\n\r\n")
    raw(watch, f"GET / HTTP/1.1\r\n{patient.number}: \x01{patient.given}\r\n\r\n")
    chunked = "POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw(watch, f"{chunked}{patient.number}\r\n{patient.given}\r\n")
    begun = "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
    raw(watch, f"{begun}I,{patient.line}", hang_up=True)


def raw(watch: Watch, text: str, hang_up: bool = False) -> None:
    """Bytes on a connection, and what comes back until it closes or nothing more does."""
    with socket.create_connection(("127.0.0.1", watch.service.port), timeout=2) as connection:
        connection.sendall(text.encode("latin-1", "replace"))
        if hang_up:
            time.sleep(0.1)
            return
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := connection.recv(65_536):
                answer += part
        watch.answers.append(("what is no HTTP", answer))


def failing_store(folder: Path) -> Path:
    """A model that runs on nothing but zeros, as a worker does when it starts: of any ECG it takes
    an element that its table has not, whose place the runtime's message quotes."""
    model = onnx.load_from_string(fake_model.weights())
    graph = model.graph
    for node in graph.node:
        if "logits" in node.output:
            node.output[0] = "sums"
    graph.node.extend(
        [
            helper.make_node("Abs", ["masked"], ["size"]),
            helper.make_node("ReduceSum", ["size"], ["total"], keepdims=0),
            helper.make_node("Ceil", ["total"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["element"]),
            helper.make_node("Add", ["sums", "element"], ["logits"]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "table"))
    onnx.checker.check_model(model)
    weights = model.SerializeToString()
    own = folder / "prednet"
    own.mkdir(parents=True)
    (own / WEIGHTS).write_bytes(weights)
    card = fake_model.card(name="prednet", sha256=hashlib.sha256(weights).hexdigest())
    (own / CARD).write_text(card.model_dump_json())
    return folder


def test_nothing_is_left_where_the_service_fails_is_late_or_has_too_much(
    tmp_path: Path, record: Record
) -> None:
    patient = Patient.drawn()
    settings = {
        "ECG_MODELS_STORE": str(failing_store(tmp_path / "store")),
        "ECG_MAX_QUEUE": "1",
        "ECG_MAX_HERE": "0",
        "ECG_TIMEOUT_S": "1",
        "ECG_TIMEOUT_PER_MIB_S": "0",
    }
    body = as_json(record, record_id=patient.record_id, patient=patient.line)
    statuses: list[int] = []

    def ask(client: httpx.Client) -> None:
        answer = client.post("/classify", content=body, headers=headers_of(patient))
        watch.heard("a failing /classify", answer)
        statuses.append(answer.status_code)

    def late() -> Iterator[bytes]:
        yield body[:1000]
        time.sleep(2)
        yield body[1000:]

    with watched(tmp_path, **settings) as watch:
        limits = httpx.Limits(max_connections=64)
        with (
            httpx.Client(base_url=watch.service.url, timeout=60, limits=limits) as client,
            concurrent.futures.ThreadPoolExecutor(48) as pool,
        ):
            ask(client)
            for _ in range(10):
                if 429 not in statuses:
                    list(pool.map(lambda _: ask(client), range(96)))
            answer = client.post("/classify", content=late(), headers=headers_of(patient))
            watch.heard("a late /classify", answer)
            statuses.append(answer.status_code)
        assert {500, 429, 503} <= set(statuses)
        assert not watch.leaks((*patient.words(), patient.record_id))


def ask_to_leak(watch: Watch, record: Record, kind: str, patient: Patient) -> None:
    headers = {KIND: kind, SECRET: urllib.parse.quote(patient.line)}
    answer = httpx.post(
        f"{watch.service.url}/classify", content=as_npz(record), headers=headers, timeout=60
    )
    watch.heard(f"/classify with {kind}", answer)


def until(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold: what is said in passing may come after the answer."""
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_found(leaking: tuple[Watch, Patient], record: Record, kind: str) -> None:
    watch, patient = leaking[0], Patient.drawn()
    assert not watch.leaks(patient.words())
    ask_to_leak(watch, record, kind, patient)
    assert watch.leaks(patient.words())


@pytest.mark.parametrize("kind", HUSHED)
def test_what_others_say_of_a_patient_is_hushed(
    leaking: tuple[Watch, Patient], record: Record, kind: str
) -> None:
    watch, patient = leaking[0], Patient.drawn()
    log, said = watch.service.log, HUSHED[kind][1]
    before = log.read_text().count(said)
    ask_to_leak(watch, record, kind, patient)
    assert until(lambda: log.read_text().count(said) > before), "it was said, but not in words"
    assert not watch.leaks(patient.words())


def test_an_error_outside_of_any_handler_is_hushed(leaking: tuple[Watch, Patient]) -> None:
    watch, patient = leaking
    kind, said = OUTSIDE
    answer = httpx.get(f"{watch.service.url}/models", timeout=60)
    assert answer.status_code == 500
    watch.heard(kind, answer)
    assert until(lambda: said in watch.service.log.read_text())
    assert not watch.leaks(patient.words())
