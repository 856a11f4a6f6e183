"""Long recordings over HTTP: the same answer as of their parts, in little memory, and let go."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from ecg.record import Record
from ecg.waveform import resample
from tests.conftest import PTB_XL, running_service
from tests.service.bodies import npz
from tests.service.test_process import metric

AF = slice(200, 260)  # of the segments
BROKEN = slice(400, 410)


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def two_hours(records: dict[str, Record]) -> np.ndarray:
    """uV, int16, leads I, II, V1 at 250 Hz: ten minutes of AF in it, and 100 s of nothing."""
    normal, _, _, fibrillating = (
        np.rint(1000 * resample(records[name].sig[[0, 1, 6]], 100.0, 250.0)) for name in PTB_XL
    )
    pieces = [normal] * 720
    pieces[AF] = [fibrillating] * 60
    pieces[BROKEN] = [0 * normal] * 10
    return np.concatenate(pieces, axis=1).astype("<i2")


def as_body(sig: np.ndarray, packed: bool = False) -> bytes:
    said = {"fs": 250, "leads": np.array(["I", "II", "V1"]), "units": "uV"}
    if not packed:
        return npz(sig=sig, **said)
    out = io.BytesIO()
    np.savez_compressed(out, sig=sig, **said)
    return out.getvalue()


def test_two_hours_have_a_burden_and_the_answers_of_their_parts(
    client: httpx.Client, two_hours: np.ndarray
) -> None:
    (result,) = client.post("/classify", content=as_body(two_hours)).json()["results"]
    burden, segments = result["af_burden"], result["segments"]
    assert len(segments) == 720 and result["duration_s"] == 7200
    assert [(e["start_s"], e["end_s"]) for e in burden["episodes"]] == [(2000.0, 2600.0)]
    assert burden["analysed_s"] == 7100 and burden["af_s"] == burden["longest_s"] == 600
    assert burden["share"] == pytest.approx(600 / 7100, abs=1e-6)
    assert {s["af"] for s in segments[BROKEN]} == {None}
    assert {r["code"] for r in result["quality"]["reasons"]} == {"flat_lead"}
    assert "(10 of 720 segments)" in result["quality"]["reasons"][0]["detail"]
    assert result["atrial_substrate"]["status"] == "abnormal"
    # A stretch of it alone, prepared and judged in the way of short records:
    part = client.post("/classify", content=as_body(two_hours[:, 2500 * 190 : 2500 * 210])).json()
    alone = [s["probability"] for s in part["results"][0]["segments"]]
    within = [s["probability"] for s in segments[190:210]]
    assert np.abs(np.subtract(alone, within))[1:-1].max() < 1e-4


def test_a_packed_record_and_uploaded_files_get_the_same_answer(
    client: httpx.Client, two_hours: np.ndarray
) -> None:
    sig = two_hours[:, : 250 * 1500]
    plain = client.post("/classify", content=as_body(sig)).json()["results"]
    packed = client.post("/classify", content=as_body(sig, packed=True)).json()["results"]
    form = client.post("/classify", files={"file": ("a.npz", as_body(sig))}).json()["results"]
    lines = ["holter 3 250 375000"]
    lines += [f"holter.dat 16 1000/mV 16 0 0 0 0 {lead}" for lead in ("I", "II", "V1")]
    parts = [
        ("file", ("holter.hea", "\n".join(lines).encode())),
        ("file", ("holter.dat", sig.T.tobytes())),
    ]
    wfdb = client.post("/classify", files=parts).json()["results"]
    expected = [s["probability"] for s in plain[0]["segments"]]
    for other in (packed, form, wfdb):
        assert other[0]["af_burden"] == plain[0]["af_burden"]
        got = [s["probability"] for s in other[0]["segments"]]
        assert np.abs(np.subtract(got, expected)).max() < 1e-5


def test_a_short_record_beside_a_long_one_keeps_its_place_and_its_answer(
    client: httpx.Client, two_hours: np.ndarray
) -> None:
    bodies = [as_body(two_hours[:, :2500]), as_body(two_hours[:, : 250 * 700])]
    parts = [("file", (f"{i}.npz", body)) for i, body in enumerate([*bodies, bodies[0]])]
    results = client.post("/classify", files=parts).json()["results"]
    assert [r["duration_s"] for r in results] == [10, 700, 10]
    (alone,) = client.post("/classify", content=bodies[0]).json()["results"]
    assert results[0]["atrial_substrate"]["probability"] == pytest.approx(
        alone["atrial_substrate"]["probability"], abs=1e-5
    )
    assert "af_burden" not in alone and "af" not in alone["segments"][0]


def test_a_long_record_that_is_unusable_throughout_abstains(client: httpx.Client) -> None:
    flat = np.zeros((3, 250 * 900), "<i2")
    (result,) = client.post("/classify", content=as_body(flat)).json()["results"]
    assert result["atrial_substrate"]["status"] == "abstained"
    assert result["af_burden"]["share"] is None and result["af_burden"]["episodes"] == []


def test_the_strip_and_the_print_of_a_long_record(
    client: httpx.Client, two_hours: np.ndarray
) -> None:
    body = as_body(two_hours)
    strip = client.post("/strip", content=body)
    assert strip.headers["content-type"].startswith("image/svg+xml")
    assert 'data-rows="24"' in strip.text and "Lead II" in strip.text
    assert client.post("/strip?record=1", content=body).status_code == 422
    assert client.post("/strip", content=b"x").status_code == 415
    refused = client.post("/strip", content=body, headers={"Accept": "image/png"})
    assert refused.status_code == 406
    assert "7190 to 7200 s" in client.post("/print?start_s=7190", content=body).text


def test_a_short_request_does_not_wait_for_a_long_one(
    tmp_path: Path, two_hours: np.ndarray
) -> None:
    long, short = as_body(np.tile(two_hours, 4)), as_body(two_hours[:, :2500])

    async def beside(url: str) -> tuple[float, list[float]]:
        waits: list[float] = []
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            (await client.post("/classify", content=short)).raise_for_status()
            began = time.monotonic()
            asked = asyncio.create_task(client.post("/classify", content=long))
            while not asked.done():
                at = time.monotonic()
                (await client.post("/classify", content=short)).raise_for_status()
                waits.append(time.monotonic() - at)
                await asyncio.sleep(0.02)
            (await asked).raise_for_status()
            return time.monotonic() - began, waits

    with running_service(tmp_path, ECG_WORKERS="1") as service:
        took, waits = asyncio.run(beside(service.url))
    assert len(waits) >= 5, "too late to show anything"
    assert np.median(waits) < took / 5


def test_a_client_that_hangs_up_on_a_long_record_frees_its_work(
    tmp_path: Path, two_hours: np.ndarray
) -> None:
    long = as_body(np.tile(two_hours, 4))

    async def hang_up(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            asked = asyncio.create_task(client.post("/classify", content=long))
            while metric((await client.get("/metrics")).text, "ecg_batch_segments_sum") < 64:
                assert not asked.done(), "too late to show anything"
            asked.cancel()

    with running_service(tmp_path, ECG_WORKERS="1") as service:
        asyncio.run(hang_up(service.url))
        deadline = time.monotonic() + 20
        hung_up = 0.0
        while not hung_up and time.monotonic() < deadline:
            text = httpx.get(f"{service.url}/metrics").text
            hung_up = metric(text, "ecg_problems_total", endpoint="classify", kind="hung-up")
        time.sleep(1)
        before, after = (
            metric(httpx.get(f"{service.url}/metrics").text, "ecg_batch_segments_sum")
            for _ in range(2)
        )
        queued = metric(httpx.get(f"{service.url}/metrics").text, "ecg_queued_segments")
    assert hung_up == 1 and queued == 0
    assert before == after < 2880, "the rest of it was not run"
    assert "never retrieved" not in service.log.read_text()


@pytest.mark.slow
def test_a_long_record_has_more_time_than_a_short_one(tmp_path: Path) -> None:
    """A body of kilobytes, so that what takes its time is the work and not the upload."""
    body = as_body(np.zeros((3, 250 * 86_400), "<i2"), packed=True)
    assert len(body) < 2**20
    short_of_time = {"ECG_TIMEOUT_S": "1.5", "ECG_TIMEOUT_PER_MIB_S": "0"}
    with running_service(tmp_path, **short_of_time, ECG_TIMEOUT_PER_HOUR_S="0") as service:
        late = httpx.post(f"{service.url}/classify", content=body, timeout=120)
        assert late.status_code == 503 and late.json()["type"].endswith("deadline")
        assert "never retrieved" not in service.log.read_text()
    with running_service(tmp_path, **short_of_time, ECG_TIMEOUT_PER_HOUR_S="10") as service:
        served = httpx.post(f"{service.url}/classify", content=body, timeout=300)
        assert served.status_code == 200
        assert len(served.json()["results"][0]["segments"]) == 8640


def test_a_slow_upload_has_more_time_the_more_of_it_has_come(
    tmp_path: Path, two_hours: np.ndarray
) -> None:
    body = as_body(two_hours)

    def slowly() -> Iterator[bytes]:
        for i in range(0, len(body), 2**20):
            yield body[i : i + 2**20]
            time.sleep(0.3)

    limits = {"ECG_TIMEOUT_S": "2", "ECG_TIMEOUT_PER_HOUR_S": "60"}
    statuses = []
    for a_mib in ("0", "1"):
        with running_service(tmp_path, **limits, ECG_TIMEOUT_PER_MIB_S=a_mib) as service:
            url = f"{service.url}/classify"
            statuses.append(httpx.post(url, content=slowly(), timeout=120).status_code)
    assert statuses == [503, 200]
