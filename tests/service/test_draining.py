"""A worker that is told to stop: first as an ASGI app alone, then as the real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from ecg.record import Record
from service.wire.draining import Draining
from tests.conftest import ROOT, running_service
from tests.service.bodies import as_npz

CLOSE = (b"connection", b"close")


class App:
    """Starts at once; answers a request when `go` is set, at / at once."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            return
        if scope["path"] == "/long":
            await self.go.wait()
        headers = [(b"Connection", b"keep-alive"), (b"x-from", b"the app")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def ask(app: Draining, path: str) -> tuple[int, list[tuple[bytes, bytes]]]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "path": path, "method": "GET", "headers": []}
    await app(scope, receive, send)
    return sent[0]["status"], sent[0]["headers"]


async def start(app: Draining) -> None:
    async def nothing(*_: Any) -> Any: ...

    await app({"type": "lifespan"}, nothing, nothing)


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """The signals that reached the handler which was there before."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, before)


def test_not_ready_but_answering_until_all_that_had_come_is_answered(stopped: list[int]) -> None:
    async def play() -> None:
        inner = App()
        app = Draining(inner, 0.3)
        await start(app)
        assert await ask(app, "/readyz") == await ask(app, "/")
        long = asyncio.create_task(ask(app, "/long"))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        status, headers = await ask(app, "/readyz")
        assert (status, CLOSE in headers) == (503, True)
        assert (b"content-type", b"application/problem+json") in headers
        assert await ask(app, "/") == (200, [(b"x-from", b"the app"), CLOSE])
        await asyncio.sleep(0.5)
        assert stopped == [], "the long request has no answer yet"
        later = asyncio.create_task(ask(app, "/long"))
        assert (await ask(app, "/"))[0] == 200, "who comes later is answered too"
        inner.go.set()
        assert await long == (200, [(b"x-from", b"the app"), CLOSE])
        await later
        await asyncio.sleep(0.2)
        assert stopped == [signal.SIGTERM]

    asyncio.run(play())


def test_it_never_waits_for_what_came_after_the_drain(stopped: list[int]) -> None:
    async def play() -> None:
        app = Draining(App(), 0.1)
        await start(app)
        os.kill(os.getpid(), signal.SIGTERM)
        first = asyncio.create_task(ask(app, "/long"))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(ask(app, "/long"))
        await asyncio.sleep(0.1)
        assert stopped == []
        first.cancel()  # its client hung up
        await asyncio.sleep(0.2)
        assert stopped == [signal.SIGTERM]
        second.cancel()

    asyncio.run(play())


def test_told_twice_it_stops_once(stopped: list[int]) -> None:
    async def play() -> None:
        app = Draining(App(), 0.1)
        await start(app)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
        await asyncio.sleep(0.4)
        assert stopped == [signal.SIGTERM]

    asyncio.run(play())


@pytest.mark.parametrize("drain_s, begun", [(0.0, True), (5.0, False)], ids=["off", "starting"])
def test_else_the_signal_is_the_servers(stopped: list[int], drain_s: float, begun: bool) -> None:
    async def play() -> None:
        app = Draining(App(), drain_s)
        if begun:
            await start(app)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.02)
        assert stopped == [signal.SIGTERM]
        assert (await ask(app, "/readyz"))[0] == 200

    asyncio.run(play())


def test_a_server_in_a_thread_has_no_signals(stopped: list[int]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: asyncio.run(start(Draining(App(), 5))))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_both_workers_drain_unless_they_are_interrupted(tmp_path: Path, record: Record) -> None:
    body = as_npz(record)
    with running_service(tmp_path, ECG_WORKERS="2", ECG_DRAIN_S="600") as service:
        kept = [httpx.Client(base_url=service.url, timeout=60) for _ in range(4)]
        for client in kept:
            answer = client.post("/classify", content=body)
            assert (answer.status_code, answer.headers.get("connection")) == (200, None)
        service.process.terminate()
        wait_until_not_ready(service.url)
        for client in kept:
            answer = client.post("/classify", content=body)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            client.close()
        for _ in range(12):  # a connection each, so that both workers are met
            answer = httpx.get(f"{service.url}/readyz", timeout=30)
            assert answer.status_code == 503
            assert answer.json()["type"] == "/problems/stopping"
            assert answer.headers["connection"] == "close"
            assert httpx.get(f"{service.url}/livez", timeout=30).status_code == 200
            answer = httpx.post(f"{service.url}/classify", content=body, timeout=30)
            assert answer.status_code == 200
        for pid in service.worker_pids():
            os.kill(pid, signal.SIGINT)
        assert service.process.wait(60) == 0


def test_a_sampler_that_runs_is_finished_and_others_are_served_meanwhile(
    tmp_path: Path, record: Record
) -> None:
    body, order = as_npz(record), {"n": 64, "num_steps": 16, "seed": 7}

    async def play(service: running_service) -> tuple[httpx.Response, int]:
        async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
            long = asyncio.create_task(client.post("/synthesize", json=order))
            await asyncio.sleep(0.5)
            assert not long.done()
            service.process.terminate()
            await asyncio.to_thread(wait_until_not_ready, service.url)
            await asyncio.sleep(0.5)  # the drain is over
            assert not long.done(), "too short to show anything"
            served = 0
            while not long.done():
                try:
                    answer = await client.post("/classify", content=body)
                except httpx.TransportError:
                    break  # the long one's answer is on its way, and the service gone
                assert answer.status_code == 200
                served += 1
                await asyncio.sleep(0.3)
            return await long, served

    alone = {"ECG_WORKERS": "1", "ECG_DRAIN_S": "0.3", "ECG_TIMEOUT_S": "120"}
    with running_service(tmp_path, **alone) as service:
        answer, served = asyncio.run(play(service))
        assert service.process.wait(60) == 0
    assert answer.status_code == 200
    assert len(answer.json()["sig"]) == order["n"]
    assert served


def test_a_stop_in_the_middle_of_the_start_is_heard(tmp_path: Path) -> None:
    """As soon as the first process listens to signals: its workers are not there yet."""
    service = running_service(tmp_path, ECG_WORKERS="2", ECG_DRAIN_S="3")
    process = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", "service.bento:EcgDirenet"]
        + ["--host", "127.0.0.1", "--port", "0"],
        cwd=ROOT,
        env=service.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 90
        while not listens(process.pid) and time.monotonic() < until:
            time.sleep(0.001)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        left = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        if process.poll() is None:
            process.kill()
            process.wait()
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def listens(pid: int) -> bool:
    """Whether the process has a handler of its own for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def wait_until_not_ready(url: str) -> None:
    for _ in range(200):
        if httpx.get(f"{url}/readyz", timeout=20).status_code == 503:
            return
    raise AssertionError("it stays ready")
