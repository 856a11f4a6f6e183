"""The service as processes: no torch, right metrics over workers, memory that returns."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import os
import re
import shutil
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest

from ecg.record import Record
from service.settings import Settings
from tests.conftest import running_service
from tests.service.bodies import as_npz
from tests.service.test_errors import GARBAGE


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels."""
    total = 0.0
    for line in text.splitlines():
        match = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if match and all(f'{k}="{v}"' in match[1] for k, v in labels.items()):
            total += float(match[2])
    return total


def test_workers_share_the_metrics_and_none_has_torch(tmp_path: Path, record: Record) -> None:
    assert importlib.util.find_spec("torch"), "the test means little where torch is not installed"
    with running_service(tmp_path, ECG_WORKERS="2") as service:
        for _ in range(24):  # a connection each, so that both workers are met
            httpx.post(f"{service.url}/classify", content=as_npz(record)).raise_for_status()
        httpx.post(f"{service.url}/classify", content=b"nonsense")
        httpx.get(f"{service.url}/a/path/never/seen")
        text = httpx.get(f"{service.url}/metrics").text
        pids = service.worker_pids()
        assert len(pids) >= 2
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in pids]
    assert any("onnxruntime" in m for m in maps)
    assert not any("libtorch" in m for m in maps)
    assert metric(text, "ecg_segments_total", endpoint="classify", outcome="answered") == 24
    assert metric(text, "ecg_batch_segments_sum", model="prednet") == 24
    assert metric(text, "ecg_queue_seconds_count", model="prednet") == 24
    assert metric(text, "ecg_problems_total", kind="unknown-format") == 1
    assert metric(text, "ecg_model_workers", model="prednet", device="cpu") == 2
    assert metric(text, "ecg_queued_segments", model="prednet") == 0
    assert "bentoml_service_request_total" in text
    assert "never" not in text


def test_memory_returns_after_garbage_and_large_bodies(tmp_path: Path, record: Record) -> None:
    def resident_mib(pid: int) -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024

    async def many(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            for _ in range(3):
                bodies = [body for body, _ in GARBAGE.values()] + [b"\x01" * (40 * 2**20)]
                await asyncio.gather(*(client.post("/classify", content=b) for b in bodies))

    with running_service(tmp_path) as service:
        worker = max(service.worker_pids(), key=resident_mib)
        for _ in range(20):
            httpx.post(f"{service.url}/classify", content=as_npz(record)).raise_for_status()
        before = resident_mib(worker)
        asyncio.run(many(service.url))
        httpx.post(f"{service.url}/classify", content=as_npz(record)).raise_for_status()
        assert resident_mib(worker) - before < 100
        assert service.process.poll() is None


@pytest.mark.parametrize(
    "limit",
    [
        {"ECG_MAX_QUEUE": "1"},
        {"ECG_MAX_DELAY_S": "0.002"},
    ],
    ids=lambda limit: next(iter(limit)),
)
def test_overload_is_429_with_retry_after_and_the_served_are_right(
    tmp_path: Path, record: Record, limit: dict[str, str]
) -> None:
    async def burst(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            post = (client.post("/classify", content=as_npz(record)) for _ in range(64))
            return await asyncio.gather(*post)

    few = {"ECG_WORKERS": "1", "ECG_ENGINE_THREADS": "1", "ECG_MAX_HERE": "0"}
    with running_service(tmp_path, **few, **limit) as service:
        answers = asyncio.run(burst(service.url))
        text = httpx.get(f"{service.url}/metrics").text
    served = [a for a in answers if a.status_code == 200]
    refused = [a for a in answers if a.status_code == 429]
    assert len(served) + len(refused) == 64
    assert served and refused
    assert metric(text, "ecg_requests_total", endpoint="classify", status="429") == len(refused)
    for answer in refused:
        assert int(answer.headers["retry-after"]) >= 1
    found = {a.json()["results"][0]["atrial_substrate"]["probability"] for a in served}
    assert max(found) - min(found) < 1e-5


def test_what_was_accepted_is_answered_before_the_service_ends(
    tmp_path: Path, record: Record
) -> None:
    body = as_npz(dataclasses.replace(record, sig=np.tile(record.sig, 60)))

    async def end_in_the_middle(service: running_service) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=24)
        async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client:
            asked = [asyncio.create_task(client.post("/classify", content=body)) for _ in range(24)]
            while not any(task.done() for task in asked):
                await asyncio.sleep(0.005)
            assert sum(task.done() for task in asked) < 12, "too late to show anything"
            service.process.terminate()
            return await asyncio.gather(*asked)

    with running_service(tmp_path, ECG_MAX_DELAY_S="60") as service:
        answers = asyncio.run(end_in_the_middle(service))
        assert service.process.wait(20) is not None
    assert [answer.status_code for answer in answers] == [200] * 24
    found = {str(answer.json()["results"][0]["segments"]) for answer in answers}
    assert len(found) == 1


IN_A_CONTAINER = pytest.param({"BENTOML_CONTAINERIZED": "true"}, marks=pytest.mark.slow)


@pytest.mark.parametrize("surroundings", [{}, IN_A_CONTAINER], ids=str)
def test_a_killed_worker_takes_only_its_own_requests_with_it(
    tmp_path: Path, record: Record, surroundings: dict[str, str]
) -> None:
    body = as_npz(record)

    def ask(url: str) -> int | None:
        try:
            return httpx.post(f"{url}/classify", content=body, timeout=10).status_code
        except httpx.TransportError:
            return None  # the connection of a request that it had taken breaks

    with running_service(tmp_path, ECG_WORKERS="2", **surroundings) as service:
        before = set(service.worker_pids())
        assert len(before) == 2
        os.kill(min(before), signal.SIGKILL)
        answers = [ask(service.url) for _ in range(200)]
        assert answers.count(200) >= 198
        deadline = time.monotonic() + 30
        while len(set(service.worker_pids()) - {min(before)}) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(set(service.worker_pids()) - {min(before)}) == 2, "another takes its place"
        assert {ask(service.url) for _ in range(50)} == {200}


def test_a_client_that_hangs_up_frees_its_work(tmp_path: Path, record: Record) -> None:
    body = as_npz(dataclasses.replace(record, sig=np.tile(record.sig, 60)))

    async def hang_up(url: str) -> None:
        limits = httpx.Limits(max_connections=24)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            asked = [asyncio.create_task(client.post("/classify", content=body)) for _ in range(24)]
            while not any(task.done() for task in asked):
                await asyncio.sleep(0.005)
            for task in asked:
                task.cancel()

    one = {"ECG_WORKERS": "1", "ECG_MAX_DELAY_S": "60"}
    with running_service(tmp_path, **one) as service:
        asyncio.run(hang_up(service.url))
        httpx.post(f"{service.url}/classify", content=as_npz(record)).raise_for_status()
        text = httpx.get(f"{service.url}/metrics").text
    hung_up = metric(text, "ecg_problems_total", endpoint="classify", kind="hung-up")
    assert hung_up > 0
    assert metric(text, "ecg_queued_segments", model="prednet") == 0
    run = metric(text, "ecg_batch_segments_sum", model="prednet")
    assert run < 60 * 24 - 30 * hung_up, "most of what they had asked for was not run"


def test_an_altered_model_stops_the_start(tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(Settings().models_store, store)
    with (store / "prednet" / "model.onnx").open("ab") as weights:
        weights.write(b"\0")
    with pytest.raises(RuntimeError, match="cannot start: .* sha256 differs"):
        with running_service(tmp_path, ECG_MODELS_STORE=str(store)):
            pass


def test_cuda_is_not_silently_replaced(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have CUDA")
    with pytest.raises(RuntimeError, match="CUDA was asked for"):
        with running_service(tmp_path, ECG_DEVICE="cuda"):
            pass


@pytest.mark.parametrize("setting", ["ECG_MAX_BODY_MIB", "ECG_WORKERS"])
def test_a_setting_that_makes_no_sense_stops_the_start(tmp_path: Path, setting: str) -> None:
    with pytest.raises(RuntimeError, match=setting.removeprefix("ECG_").lower()):
        with running_service(tmp_path, **{setting: "0"}):
            pass
