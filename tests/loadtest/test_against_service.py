"""The instruments against a running service: bodies, the limit, and a server's life."""

from __future__ import annotations

import shutil
import sys

import httpx
import numpy as np
import pytest

from ecg.formats import File, Hints, read
from ecg.store import load_classifier
from loadtest import bodies, wrk
from loadtest.limit import measure
from loadtest.server import serving
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def records():
    found = bodies.records()
    assert len(found) >= 4
    return found


def test_every_body_is_what_the_service_takes(server_url: str, records) -> None:
    for body in (
        bodies.one_npz(records[0]),
        bodies.one_json(records[0]),
        bodies.many_npz(records, 5),
        bodies.synthesize(1),
    ):
        answer = httpx.post(server_url + body.path, content=body.content, timeout=60)
        assert answer.status_code == 200, body.name
        got = answer.json()
        assert len(got.get("results", got.get("sig"))) == body.segments
    broken = bodies.malformed()
    assert httpx.post(server_url + broken.path, content=broken.content).status_code == 400


def test_json_and_npz_hold_the_same_ecg(records) -> None:
    (by_npz,) = read([File(bodies.one_npz(records[1]).content)], Hints())
    (by_json,) = read([File(bodies.one_json(records[1]).content)], Hints())
    np.testing.assert_array_equal(by_npz.sig, records[1].sig)
    assert np.abs(by_json.sig - records[1].sig).max() <= 0.0005


def test_the_limit_is_of_the_segments_that_were_run(records) -> None:
    classifier = load_classifier(ROOT / "models_store" / "prednet", "cpu")
    found = measure(classifier, records, runs=2, threads=1, batch=4, seconds=0.3)
    assert (found.runs, found.batch) == (2, 4)
    assert min(found.preparation_ms, found.model_ms, found.segments_a_second) > 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_counts_answers_and_refusals(server_url: str, records) -> None:
    good = wrk.run(server_url, [bodies.one_npz(r) for r in records], 2, 1)
    assert good.requests > 0 and good.refused == good.broken == 0
    assert 0 < good.p50_ms <= good.p99_ms
    mixed = wrk.run(server_url, [bodies.one_npz(records[0]), bodies.malformed()], 2, 1)
    assert 0.3 < mixed.refused / mixed.requests < 0.7
    resting = wrk.run(server_url, [bodies.malformed()], 2, 1, pause_ms=100)
    assert 0 < resting.requests <= 22, "two connections, ten times a second"
    assert resting.statuses == {"400": resting.requests}


COMMAND = (sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1")


def test_a_server_is_up_inside_and_gone_afterwards() -> None:
    with serving(COMMAND, ready="/") as service:
        assert httpx.get(service.url).status_code == 200
        assert service.cost().mib > 1
        process = service.process
    assert not process.is_running()


def test_a_server_that_does_not_come_up_is_said_in_its_own_words() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        with serving((sys.executable, "-c", "raise SystemExit('no such thing')")):
            pass
