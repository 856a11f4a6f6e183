"""Traces as a collector gets them, from a real service."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from ecg.record import Record
from service.settings import Settings
from service.tracing import MAX_SPANS
from tests.conftest import ROOT, running_service, wfdb_files
from tests.service.bodies import as_npz, as_parts
from tests.service.collector import Collector, attributes
from tests.service.test_process import metric

ONE = {"ECG_WORKERS": "1", "ECG_ENGINE_THREADS": "1", "ECG_TRACES_RATIO": "1"}
PLANTED = "ZZTESTPATIENT-4711"  # of nobody
SERVER = 2  # SpanKind
ERROR = 2  # StatusCode


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[running_service]:
    folder = tmp_path_factory.mktemp("traced")
    with running_service(folder, ECG_TRACES=collector.url, **ONE) as service:
        yield service


def traceparent(sampled: bool = True) -> tuple[str, str, str]:
    """The header, its trace id and its span id."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return f"00-{trace_id}-{span_id}-0{int(sampled)}", trace_id, span_id


def events(service: running_service, name: str) -> list[dict[str, object]]:
    lines = [line for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [event for event in map(json.loads, lines) if event["event"] == name]


def test_a_request_continues_its_clients_trace(
    traced: running_service, collector: Collector, record: Record
) -> None:
    header, trace_id, parent_id = traceparent()
    answer = httpx.post(
        f"{traced.url}/classify",
        files=as_parts(wfdb_files("00009_lr")),
        headers={"traceparent": header},
    )
    answer.raise_for_status()
    collector.wait(lambda c: any(s.kind == SERVER for s in c.of(trace_id)))
    spans = {span.name: span for span in collector.of(trace_id)}
    assert sorted(spans) == ["POST /classify", "model", "queue", "read", "receive"]
    request = spans.pop("POST /classify")
    assert request.kind == SERVER
    assert request.parent_span_id.hex() == parent_id
    found = attributes(request)
    n_bytes = found.pop("ecg.n_bytes")
    assert n_bytes == sum(len(file.content) for file in wfdb_files("00009_lr"))
    assert found == {
        "http.request.method": "POST",
        "http.route": "/classify",
        "http.response.status_code": 200,
        "request_id": answer.json()["request_id"],
        "ecg.format": "wfdb",
        "ecg.n_files": 2,
        "ecg.n_records": 1,
    }
    for child in spans.values():
        assert child.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= child.start_time_unix_nano
        assert child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= request.end_time_unix_nano
    order = sorted(spans.values(), key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in order] == ["receive", "read", "queue", "model"]
    assert attributes(spans["queue"]) == {"ecg.model": "prednet", "ecg.n_segments": 1}
    (link,) = spans["model"].links
    (run,) = collector.of(link.trace_id.hex())
    assert (run.name, run.span_id) == ("run", link.span_id)
    assert [back.span_id for back in run.links] == [request.span_id]
    assert abs(time.time_ns() - request.start_time_unix_nano) < 60e9
    (logged,) = [e for e in events(traced, "request") if e.get("trace_id") == trace_id]
    assert logged["request_id"] == answer.json()["request_id"]


def test_a_batch_is_one_run_linked_to_all_its_requests(
    traced: running_service, collector: Collector, record: Record
) -> None:
    ids = [traceparent() for _ in range(32)]

    async def burst() -> None:
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=traced.url, timeout=60, limits=limits) as client:
            posts = (
                client.post("/classify", content=as_npz(record), headers={"traceparent": header})
                for header, *_ in ids
            )
            for answer in await asyncio.gather(*posts):
                answer.raise_for_status()

    asyncio.run(burst())
    wanted = {trace_id for _, trace_id, _ in ids}
    collector.wait(lambda c: wanted <= {s.trace_id.hex() for s in c.spans if s.kind == SERVER})
    served = [span for span in collector.spans if span.kind == SERVER]
    requests = {span.span_id: span for span in served if span.trace_id.hex() in wanted}
    runs = [
        run for run in collector.named("run") if {li.span_id for li in run.links} & set(requests)
    ]
    linked = [li.span_id for run in runs for li in run.links]
    assert sorted(linked) == sorted(requests), "every request is in one run"
    assert any(len(run.links) > 1 for run in runs), "no batch was shared: the test shows nothing"
    for run in runs:
        assert attributes(run) == {"ecg.model": "prednet", "ecg.n_segments": len(run.links)}
        for link in run.links:
            request = requests[link.span_id]
            (model,) = [s for s in collector.of(request.trace_id.hex()) if s.name == "model"]
            assert [back.span_id for back in model.links] == [run.span_id]
            assert attributes(model)["ecg.batch_segments"] == len(run.links)
            assert abs(model.start_time_unix_nano - run.start_time_unix_nano) < 1e6


def test_what_was_refused_has_its_kind_and_what_was_drawn_its_span(
    traced: running_service, collector: Collector, record: Record
) -> None:
    asked = {
        "classify": (b"nonsense", {}, 415, "unknown-format"),
        "print": (as_npz(record), {"record": "7"}, 422, "unservable"),
        "strip": (as_npz(record), {}, 200, None),
        "synthesize": (b'{"n": 1, "num_steps": 2, "seed": 1}', {}, 200, None),
    }
    ids: dict[str, str] = {}
    for endpoint, (body, query, status, _) in asked.items():
        header, ids[endpoint], _ = traceparent()
        answer = httpx.post(
            f"{traced.url}/{endpoint}",
            content=body,
            params=query,
            headers={"traceparent": header, "accept": "*/*"},
            timeout=60,
        )
        assert answer.status_code == status, answer.text
    collector.wait(
        lambda c: set(ids.values()) <= {s.trace_id.hex() for s in c.spans if s.kind == SERVER}
    )
    names: dict[str, list[str]] = {}
    for endpoint, (_, _, status, kind) in asked.items():
        spans = collector.of(ids[endpoint])
        names[endpoint] = [span.name for span in spans]
        (request,) = [span for span in spans if span.kind == SERVER]
        found = attributes(request)
        assert found["http.route"] == f"/{endpoint}"
        assert found["http.response.status_code"] == status
        assert found.get("error.type") == kind
        assert request.status.code != ERROR, "a client's mistake is no failure of the service"
    assert "draw" in names["strip"]
    assert names["synthesize"].count("model") == 2
    assert "queue" in names["synthesize"]


def test_nothing_of_a_patient_is_in_a_trace(
    traced: running_service, collector: Collector, record: Record
) -> None:
    header, trace_id, _ = traceparent()
    files = [
        ("file", (f"{PLANTED}{e}", f.content))
        for e, f in zip((".hea", ".dat"), wfdb_files("00009_lr"), strict=True)
    ]
    for path in ("/classify", "/print", f"/{PLANTED}"):
        httpx.post(
            f"{traced.url}{path}",
            files=files,
            params={"name": PLANTED, "leads": PLANTED},
            headers={
                "traceparent": header,
                "tracestate": f"vendor={PLANTED}",
                "baggage": f"patient={PLANTED}",
                "x-patient": PLANTED,
                "user-agent": PLANTED,
                "cookie": PLANTED,
            },
        )
    collector.wait(
        lambda c: (
            {attributes(s)["http.route"] for s in c.of(trace_id) if s.kind == SERVER}
            == {"/classify", "/print"}
        )
    )
    assert not any(PLANTED.encode() in body for body in collector.bodies)
    assert not any(span.trace_state for span in collector.spans)
    assert not any(span.events for span in collector.spans), "an exception's message may quote"


def test_what_a_client_does_not_want_recorded_is_not(
    traced: running_service, collector: Collector, record: Record
) -> None:
    header, unwanted, _ = traceparent(sampled=False)
    body = as_npz(record)
    httpx.post(f"{traced.url}/classify", content=body, headers={"traceparent": header})
    header, after, _ = traceparent()
    httpx.post(f"{traced.url}/classify", content=body, headers={"traceparent": header})
    collector.wait(lambda c: any(s.kind == SERVER for s in c.of(after)))
    assert not collector.of(unwanted)
    (resource,) = {tuple(sorted(r.items())) for r in collector.resources}
    assert dict(resource)["service.name"] == "ecg-direnet"


@pytest.mark.parametrize(
    "malformed",
    ["", "00-zz-yy-01", f"00-{'0' * 32}-{'0' * 16}-01"],
    ids=["empty", "words", "zeros"],
)
def test_a_malformed_traceparent_begins_a_trace_of_its_own(
    traced: running_service, collector: Collector, record: Record, malformed: str
) -> None:
    answer = httpx.post(
        f"{traced.url}/classify", content=as_npz(record), headers={"traceparent": malformed}
    )
    request_id = answer.json()["request_id"]
    collector.wait(lambda c: any(attributes(s).get("request_id") == request_id for s in c.spans))
    (request,) = [s for s in collector.spans if attributes(s).get("request_id") == request_id]
    assert not request.parent_span_id


def test_an_hours_long_record_has_a_bounded_trace(
    traced: running_service, collector: Collector, record: Record
) -> None:
    hours = dataclasses.replace(record, sig=np.tile(record.sig[1:2], 6 * 60 * 4), leads=("II",))
    header, trace_id, _ = traceparent()
    answer = httpx.post(
        f"{traced.url}/classify",
        content=as_npz(hours),
        headers={"traceparent": header},
        timeout=120,
    )
    answer.raise_for_status()
    collector.wait(lambda c: any(s.kind == SERVER for s in c.of(trace_id)))
    spans = collector.of(trace_id)
    (request,) = [s for s in spans if s.kind == SERVER]
    assert len(spans) == 1 + MAX_SPANS
    assert attributes(request)["ecg.spans_left_out"] > 0


def test_a_collector_that_is_away_costs_a_metric_and_no_more(
    tmp_path: Path, record: Record
) -> None:
    with Collector() as gone:
        port = gone.port
    body = as_npz(record)
    with running_service(tmp_path, ECG_TRACES=f"http://127.0.0.1:{port}", **ONE) as service:
        for _ in range(20):
            httpx.post(f"{service.url}/classify", content=body).raise_for_status()
        deadline = time.monotonic() + 30
        while not metric(
            text := httpx.get(f"{service.url}/metrics").text,
            "ecg_trace_spans_total",
            outcome="failed",
        ):
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        assert metric(text, "ecg_trace_spans_total", outcome="sent") == 0
        assert len(events(service, "collector away")) == 1
        with Collector(port) as back:
            for _ in range(3):
                httpx.post(f"{service.url}/classify", content=body).raise_for_status()
            back.wait(lambda c: len([s for s in c.spans if s.kind == SERVER]) >= 3)
        assert len(events(service, "collector back")) == 1
        for _ in range(5):
            httpx.post(f"{service.url}/classify", content=body).raise_for_status()
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(20)
        assert time.monotonic() - began < 15, "the end does not wait for the collector"
    assert "Traceback" not in service.log.read_text()
    assert "HTTPConnectionPool" not in service.log.read_text()


def test_what_was_recorded_is_sent_before_the_service_ends(tmp_path: Path, record: Record) -> None:
    with Collector() as collector:
        with running_service(tmp_path, ECG_TRACES=collector.url, **ONE) as service:
            for _ in range(5):
                httpx.post(f"{service.url}/classify", content=as_npz(record)).raise_for_status()
        assert len([s for s in collector.spans if s.kind == SERVER]) == 5


def test_a_share_of_the_requests_is_recorded_whole(tmp_path: Path, record: Record) -> None:
    body = as_npz(record)
    with Collector() as collector:
        settings = {**ONE, "ECG_TRACES": collector.url, "ECG_TRACES_RATIO": "0.2"}
        with running_service(tmp_path, **settings) as service, httpx.Client() as client:
            for _ in range(300):
                client.post(f"{service.url}/classify", content=body).raise_for_status()
        requests = [s for s in collector.spans if s.kind == SERVER]
        assert 25 <= len(requests) <= 110, "of 300 at 0.2"
        for request in requests:
            names = sorted(span.name for span in collector.of(request.trace_id.hex()))
            assert names == ["POST /classify", "model", "queue", "read", "receive"]
        assert len(collector.named("run")) == len(requests)


UNTRACED = """
import sys
from starlette.testclient import TestClient
from service.edge import create_app
with TestClient(create_app()) as client:
    client.post("/classify", content=b"nonsense", headers={"traceparent": sys.argv[1]})
    print(client.app.state.tracing, any("otlp" in name for name in sys.modules))
"""


def test_without_a_collector_nothing_is_recorded_or_loaded() -> None:
    assert Settings().traces == ""
    command = [sys.executable, "-c", UNTRACED, traceparent()[0]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "None False" in done.stdout.splitlines()  # the audit may have the last line
    assert '"trace_id"' not in done.stdout


def test_a_collector_that_is_no_url_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="traces"):
        with running_service(tmp_path, ECG_TRACES="collector:4318"):
            pass
