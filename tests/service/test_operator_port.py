"""/metrics and /docs at a port of their own: whichever worker has it, and after its end another."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from ecg.record import Record
from service.settings import Settings
from tests.conftest import running_service
from tests.service.bodies import as_npz
from tests.service.guarded import Keys, bearer, without_generator
from tests.service.test_process import metric


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_what_is_moved_is_there_without_a_key_and_nowhere_else(
    tmp_path: Path, record: Record
) -> None:
    keys, port = Keys(tmp_path), free_port()
    key = bearer(keys.make())
    there = f"http://127.0.0.1:{port}"
    more = {
        **without_generator(tmp_path),
        "ECG_WORKERS": "2",
        "ECG_DATABASE_URL": keys.url,
        "ECG_METRICS": "moved",
        "ECG_DOCS": "moved",
        "ECG_OPERATOR_PORT": str(port),
    }
    with running_service(tmp_path, host="0.0.0.0", **more) as service:
        for _ in range(8):  # a connection each, so that both workers are met
            answer = httpx.post(
                f"{service.url}/classify", content=as_npz(record), headers=key, timeout=60
            )
            assert answer.status_code == 200
        answer = httpx.get(f"{there}/metrics", timeout=60)
        assert metric(answer.text, "ecg_segments_total", endpoint="classify") == 8
        assert metric(answer.text, "ecg_model_workers", model="prednet") == 2
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert httpx.get(f"{there}/docs", timeout=60).status_code == 200
        assert "/classify" in httpx.get(f"{there}/openapi.json", timeout=60).json()["paths"]
        bundle = httpx.get(f"{there}/static/vendor/swagger-ui/swagger-ui-bundle.js", timeout=60)
        assert bundle.status_code == 200
        for path in ("/", "/models", "/classify", "/static/page.js"):
            assert httpx.get(there + path, timeout=60).status_code == 404
        for path in ("/metrics", "/docs", "/openapi.json", "/static/docs.js"):
            assert httpx.get(service.url + path, timeout=60).status_code == 401
            assert httpx.get(service.url + path, headers=key, timeout=60).status_code == 404

        os.kill(holder(service, port), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                assert httpx.get(f"{there}/metrics", timeout=60).status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.1)
        else:
            pytest.fail("no other worker took the port")


def holder(service: running_service, port: int) -> int:
    """The process that listens there."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    (inode,) = [f[9] for f in fields if f[1].endswith(f":{port:04X}") and f[3] == "0A"]
    for pid in service.worker_pids():
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if link.is_symlink() and os.readlink(link) == f"socket:[{inode}]":
                return pid
    raise AssertionError("nobody listens there")


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="of ECG_OPERATOR_PORT: Address already in use"):
            with running_service(tmp_path, ECG_METRICS="moved", ECG_OPERATOR_PORT=port):
                pass


def test_moving_needs_somewhere_to_move_to() -> None:
    with pytest.raises(ValidationError, match="needs an operator_port"):
        Settings(metrics="moved")
    with pytest.raises(ValidationError, match="needs an oidc_audience"):
        Settings(oidc_issuer="https://idp.example")
