"""What is wrong gets a clear answer, the server lives, and nothing of the request is kept."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from ecg.record import Record
from tests.conftest import PTB_XL, running_service, wfdb_files
from tests.service.bodies import as_csv, as_json, as_npz, as_parts, as_zip, npz


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, timeout=30) as client:
        yield client


def problem(answer: httpx.Response, status: int) -> str:
    """The problem's detail, its form checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("/problems/") and body["title"] and body["detail"]
    assert body["request_id"]
    assert "Traceback" not in answer.text
    return body["detail"]


def record_json(**changes: object) -> bytes:
    given = {"sig": np.ones((2, 1000)).tolist(), "fs": 100, "leads": ["I", "II"], "units": "mV"}
    given |= changes
    return json.dumps({k: v for k, v in given.items() if v is not ...}).encode()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fs": ...}, "fs: is missing"),
        ({"fs": "100"}, "fs: must be a number"),
        ({"fs": 20}, "fs: must be between 50 and 4000"),
        ({"fs": True}, "fs: "),
        ({"units": ...}, "units: is missing"),
        ({"units": "V/m"}, "units: must be mV or uV"),
        ({"leads": ...}, "leads: is missing"),
        ({"leads": ["I", "Q"]}, "leads[1]: is not one of"),
        ({"leads": ["I", "i"]}, "leads[1]: repeats lead I"),
        ({"leads": ["I"]}, "leads: names 1 leads"),
        ({"sig": ...}, "sig: is missing"),
        ({"sig": [[1.0] * 400] * 2}, "at least 5 s"),
        ({"sig": [[1.0] * 1000, [1.0] * 999]}, "sig[1]: has 999 samples"),
        ({"sig": [["1"] * 1000] * 2}, "sig[0]: holds something that is not a number"),
        ({"sig": [[True] * 1000] * 2}, "sig[0]: holds something that is not a number"),
        ({"sig": [[None] * 1000] * 2}, "sig: holds no finite sample"),
        ({"sig": [[0.0] * 1000] * 10_000, "leads": ["I"] * 10_000}, "there are 12"),
        ({"record_id": 7}, "record_id: must be a string"),
    ],
)
def test_a_record_that_cannot_be_served_is_422_and_says_why(
    client: httpx.Client, changes: dict, says: str
) -> None:
    detail = problem(client.post("/classify", content=record_json(**changes)), 422)
    assert says in detail


def test_the_faulty_record_of_several_is_named(client: httpx.Client) -> None:
    good = json.loads(record_json())
    body = json.dumps({"records": [good, good, {**good, "fs": 9000}]})
    assert "records[2].fs" in problem(client.post("/classify", content=body), 422)


def test_more_than_64_records_are_refused(client: httpx.Client, record: Record) -> None:
    body = npz(
        sig=np.repeat(record.sig[None], 65, axis=0),
        fs=100,
        leads=np.array(record.leads),
        units="mV",
    )
    assert "at most 64" in problem(client.post("/classify", content=body), 422)


def header_that_lies(n_bytes: int) -> bytes:
    """An NPZ whose `sig` claims more than it holds."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        member = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f4", "fortran_order": False, "shape": (1, n_bytes // 4)}
        )
        archive.writestr("sig.npy", member.getvalue() + b"\x00" * 64)
    return out.getvalue()


def bomb() -> bytes:
    """A small zip that would unpack to a gigabyte."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("sig.npy", "w", force_zip64=True) as member:
            for _ in range(1024):
                member.write(b"\x00" * 2**20)
    return out.getvalue()


def lying_wfdb_header() -> bytes:
    header, signal = wfdb_files(PTB_XL[0])
    longer = header.content.replace(b" 100 1000\n", b" 100 400000000\n", 1)
    return as_zip([type(header)(longer, header.name), signal])


OBJECTS = np.array([{"a": 1}, "x"], dtype=object)
GARBAGE = {
    "random bytes": (np.random.default_rng(0).bytes(5000), 415),
    "an empty body": (b"", 415),
    "a pickle": (pickle.dumps({"sig": [1, 2]}), 415),
    "a pickle in an NPZ": (npz(sig=OBJECTS, fs=100, leads=np.array(["I"]), units="mV"), 400),
    "a header that lies about 10 GB": (header_that_lies(10 * 2**30), 400),
    "a WFDB header that lies": (lying_wfdb_header(), 400),
    "a zip bomb": (bomb(), 413),
    "broken JSON": (b'{"sig": [[1, 2', 400),
    "NaN in JSON": (b'{"sig": [[NaN]]}', 400),
    "deep JSON": (b"[" * 100_000, 400),
    "a CSV without fs": (b"I,II\n1,2\n", 422),
    "an NPZ without a signal": (npz(x=np.zeros(3)), 422),
    "strings in an NPZ": (npz(sig=np.array([["a"] * 999]), fs=100, leads=np.array(["I"])), 422),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_gets_the_right_problem_and_the_server_lives(
    client: httpx.Client, record: Record, kind: str
) -> None:
    body, status = GARBAGE[kind]
    problem(client.post("/classify", content=body), status)
    assert client.post("/classify", content=as_npz(record)).status_code == 200


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_truncated_bodies_are_problems(client: httpx.Client, record: Record, share: float) -> None:
    for body in (as_npz(record), as_json(record), as_zip(wfdb_files(PTB_XL[0]))):
        answer = client.post("/classify", content=body[: int(len(body) * share)])
        problem(answer, answer.status_code)
        assert answer.status_code in (400, 415, 422)


def test_a_claimed_type_that_the_body_is_not_is_400(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    problem(client.post("/classify", content=b"\x00\x01", headers=headers), 400)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(client.post("/classify", content=b"--x\r\nnonsense", headers=headers), 400)


def test_a_multipart_body_needs_the_field_file(client: httpx.Client) -> None:
    files = [("other", ("a.csv", b"I\n1\n"))]
    assert "field `file`" in problem(client.post("/classify", files=files), 422)


def test_other_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    problem(client.get("/nothing/here"), 404)
    problem(client.post("/static/absent.js"), 404)
    for method, path in (("GET", "/classify"), ("POST", "/models"), ("DELETE", "/metrics")):
        answer = client.request(method, path)
        problem(answer, 405)
        assert answer.headers["allow"]
    problem(client.post("/print?record=-1", content=b"x"), 422)


def test_too_large_is_refused_before_it_is_read(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(70):
            yield b"\x00" * 2**20

    body = b"\x00" * (65 * 2**20)
    assert "64 MiB" in problem(client.post("/classify", content=body), 413)
    assert "64 MiB" in problem(client.post("/classify", content=chunks()), 413)  # undeclared


def test_nothing_of_a_request_is_left_in_logs_metrics_or_files(
    tmp_path: Path, record: Record
) -> None:
    secret = "Grete-Mustermann-1931"
    large = as_json(record, record_id=secret) + b" " * (3 * 2**20)  # past the usual spool size
    header, signal = wfdb_files(PTB_XL[0])
    named = type(header)(header.content + f"# {secret}\n".encode(), f"{secret}.hea")
    with running_service(tmp_path) as service:
        before = set(tmp_path.rglob("*"))
        with httpx.Client(base_url=service.url, timeout=30) as client:
            client.post("/classify", files=[("file", (secret, large))])
            client.post("/classify", files=as_parts([named, signal]))
            client.post(f"/classify?units={secret}", content=as_csv(record))
            client.post("/classify", content=f'{{"sig": "{secret}"}}'.encode())
            client.post("/classify", content=f"I,{secret}\n1,{secret}\n".encode())
            client.get(f"/{secret}?name={secret}")
            answers = client.get("/metrics").text
        assert secret not in answers
        added = set(tmp_path.rglob("*")) - before
        assert not [p for p in added if p.is_file() and "prometheus" not in str(p)]
        log = service.log.read_text()
    assert '"event":"request"' in log
    assert secret not in log
    for path in tmp_path.rglob("*"):
        assert secret not in path.name
        assert not path.is_file() or secret.encode() not in path.read_bytes()
