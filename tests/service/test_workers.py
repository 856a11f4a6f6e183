"""What workers cost, and that the dead leave nothing behind but what they did."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from ecg.record import Record
from service.workers import EVERY_S, forget_dead
from tests.conftest import running_service
from tests.service.bodies import as_npz
from tests.service.test_process import metric


def when(service: running_service, true: Callable[[str], bool], seconds: float) -> str:
    """The metrics, once something is true of them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            text = httpx.get(f"{service.url}/metrics", timeout=5).text
        except httpx.TransportError:
            continue  # of the worker that was killed
        if true(text):
            return text
        time.sleep(0.2)
    raise AssertionError(text)


def pids(text: str) -> set[int]:
    return {int(pid) for pid in re.findall(r'ecg_worker_resident_bytes\{pid="(\d+)"\}', text)}


def test_each_worker_shows_what_it_costs(tmp_path: Path, record: Record) -> None:
    with running_service(tmp_path, ECG_WORKERS="2") as service:
        text = when(service, lambda t: metric(t, "ecg_model_workers", model="prednet") == 2, 20)
        for _ in range(30):
            httpx.post(f"{service.url}/classify", content=as_npz(record)).raise_for_status()
        alive = set(service.worker_pids())
        text = when(service, lambda t: pids(t) == alive, 20)
        shown = {
            int(m[1]): float(m[2])
            for m in re.finditer(r'ecg_worker_resident_bytes\{pid="(\d+)"\} (\S+)', text)
        }
        for pid, resident in shown.items():
            assert 0.5 < resident / psutil.Process(pid).memory_info().rss < 2
        spent = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in alive)
        time.sleep(EVERY_S + 1)
        text = httpx.get(f"{service.url}/metrics").text
    counted = float(re.search(r"^ecg_worker_cpu_seconds_total (\S+)", text, re.M)[1])
    assert spent * 0.7 < counted < spent * 1.5 + 2
    assert "ecg_wanted_workers 2.0" in text
    assert "ecg_worker_starts_total 2.0" in text
    assert "ecg_cuda_offered 0.0" in text
    assert float(re.search(r"ecg_loop_delay_seconds_count (\S+)", text)[1]) >= 2


def test_a_killed_workers_gauges_go_and_its_counts_stay(tmp_path: Path, record: Record) -> None:
    body = as_npz(record)
    with running_service(tmp_path, ECG_WORKERS="2") as service:
        when(service, lambda t: metric(t, "ecg_model_workers", model="prednet") == 2, 20)
        for _ in range(40):
            httpx.post(f"{service.url}/classify", content=body).raise_for_status()
        before = httpx.get(f"{service.url}/metrics").text
        victim = min(service.worker_pids())
        os.kill(victim, signal.SIGKILL)
        after = when(
            service,
            lambda t: "ecg_worker_starts_total 3.0" in t and pids(t) == set(service.worker_pids()),
            60,
        )
        assert victim not in pids(after)
        assert len(pids(after)) == 2
        for model in ("prednet", "ldm"):
            assert metric(after, "ecg_model_workers", model=model) == 2
        name = "ecg_requests_total"
        asked = {"endpoint": "classify", "status": "200"}
        assert metric(before, name, **asked) == metric(after, name, **asked) == 40
        assert metric(after, "ecg_queued_segments", model="prednet") == 0


def test_only_the_dead_and_strangers_are_forgotten(tmp_path: Path) -> None:
    """pid 1 lives, but is nobody's worker here: numbers are given again."""
    me, parent = os.getpid(), os.getppid()
    for name in (
        f"gauge_livesum_{me}.db",
        "gauge_livesum_1.db",
        "gauge_liveall_4194304.db",
        "counter_4194304.db",
        "histogram_4194304.db",
    ):
        (tmp_path / name).write_bytes(b"")
    forget_dead(tmp_path, parent)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"gauge_livesum_{me}.db", "counter_4194304.db", "histogram_4194304.db"}


def test_series_do_not_grow_with_what_clients_send(tmp_path: Path, record: Record) -> None:
    def series(text: str) -> set[str]:
        lines = (line for line in text.splitlines() if not line.startswith("#"))
        return {re.sub(r'le="[^"]*"|pid="\d+"', "", line.rpartition(" ")[0]) for line in lines}

    def send(service: running_service, word: str) -> None:
        headers = {"user-agent": word, "accept": f"{word}/*", "content-type": f"application/{word}"}
        part = [("file", (f"{word}.dat", b"x"))]
        for path in ("/classify", "/print", "/synthesize", "/strip", f"/{word}", f"/docs/{word}"):
            query = {word: word, "record": word, "format": word}
            httpx.post(f"{service.url}{path}", params=query, headers=headers, content=b"x")
            httpx.post(f"{service.url}{path}", params=query, files=part)
            httpx.request(word[:4].upper(), f"{service.url}{path}")

    with running_service(tmp_path, ECG_WORKERS="1") as service:
        httpx.post(f"{service.url}/classify", content=as_npz(record)).raise_for_status()
        send(service, "first")
        before = series(httpx.get(f"{service.url}/metrics").text)
        for word in ("second", "third", "zztest", "x" * 200):
            send(service, word)
        after = series(httpx.get(f"{service.url}/metrics").text)
    assert not after - before
    assert not any("zztest" in line or "first" in line for line in after)
