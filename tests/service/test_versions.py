"""Several models of a kind side by side, chosen by `?model=`: the real app, and a real service."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError
from starlette.testclient import TestClient

from ecg.errors import StoreError
from ecg.record import Record
from ecg.store import load_classifier
from service import database
from service.audit import commands
from service.edge import create_app, refuse_early
from service.settings import Settings
from service.wire.door import Door, known_paths
from tests.conftest import ROOT, running_service
from tests.ecg import fake_generator, fake_model
from tests.service.bodies import as_npz
from tests.service.guarded import Keys, bearer
from tests.service.guarded import client as keyed

SERVED = ("prednet", "prednet-large")
BOTH = ",".join(SERVED)
GENERATORS = ("ldm", "ldm@0.0.6")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped classifiers, a third that differs at first sight, and two generators."""
    store = tmp_path_factory.mktemp("versions") / "store"
    for name in SERVED:
        shutil.copytree(ROOT / "models_store" / name, store / name)
    fake_model.store(store / "fake")
    for name in GENERATORS:
        fake_generator.store(store / name, version=name.partition("@")[2] or "0.0.7")
    return store


def served(store: Path, **settings: Any) -> TestClient:
    given = {"models_store": store, "workers": 1, "audit": "off", "access": "off"}
    given["timeout_s"] = 600  # a busy machine
    return TestClient(create_app(Settings(**{**given, **settings})))


@pytest.fixture(scope="module")
def both(store: Path) -> Iterator[TestClient]:
    with served(store, classifier=BOTH, generator=",".join(GENERATORS)) as client:
        yield client


@pytest.fixture(scope="module")
def alone(store: Path) -> Iterator[dict[str, TestClient]]:
    """Each classifier served by itself."""
    with (
        served(store, classifier=SERVED[0], generator="ldm") as first,
        served(store, classifier=SERVED[1], generator=GENERATORS[1]) as second,
    ):
        yield dict(zip(SERVED, (first, second), strict=True))


def without_id(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {k: v for k, v in answer.json().items() if k != "request_id"}


def test_each_answers_as_if_served_alone(both, alone, records: dict[str, Record]) -> None:
    for record in records.values():
        body = as_npz(record)
        found = [without_id(both.post(f"/classify?model={n}", content=body)) for n in SERVED]
        for name, answer in zip(SERVED, found, strict=True):
            assert answer == without_id(alone[name].post("/classify", content=body))
            assert answer["model"]["name"] == name
        assert found[0]["results"] != found[1]["results"]


def test_where_none_is_named_the_first_answers(both, alone, record: Record) -> None:
    body = as_npz(record)
    first = without_id(alone["prednet"].post("/classify", content=body))
    assert without_id(both.post("/classify", content=body)) == first


def test_explanations_are_of_the_chosen_model(both, alone, record: Record) -> None:
    body = as_npz(record)
    found = [without_id(both.post(f"/classify?explain=1&model={n}", content=body)) for n in SERVED]
    for name, answer in zip(SERVED, found, strict=True):
        assert answer == without_id(alone[name].post("/classify?explain=1", content=body))
    scales = [answer["results"][0]["explanation"]["scale"] for answer in found]
    assert scales[0] != scales[1]
    prints = [both.post(f"/print?explain=1&model={n}", content=body).content for n in SERVED]
    assert prints[0] != prints[1]
    for name, shaded in zip(SERVED, prints, strict=True):
        assert shaded == alone[name].post("/print?explain=1", content=body).content


def test_a_fhir_answer_names_the_chosen_model(both, record: Record) -> None:
    for name in SERVED:
        answer = both.post(f"/classify?format=fhir&model={name}", content=as_npz(record))
        (device,) = (
            e["resource"]
            for e in answer.json()["entry"]
            if e["resource"]["resourceType"] == "Device"
        )
        version = load_classifier(ROOT / "models_store" / name, "cpu").card.version
        assert name in str(device) and version in str(device)


def test_two_versions_of_one_generator(both, store: Path) -> None:
    answers = [
        both.post(f"/synthesize?model={name}", json={"seed": 3}).json() for name in GENERATORS
    ]
    assert [a["model"]["version"] for a in answers] == ["0.0.7", "0.0.6"]
    assert both.post("/synthesize", json={"seed": 3}).json()["model"] == answers[0]["model"]


@pytest.mark.parametrize("path", ["/classify", "/classify?explain=1", "/print", "/synthesize"])
def test_an_unknown_name_is_told_what_there_is(both, record: Record, path: str) -> None:
    body = b"{}" if path == "/synthesize" else as_npz(record)
    joint = "&" if "?" in path else "?"
    answer = both.post(f"{path}{joint}model=Jane%20Doe", content=body)
    assert answer.status_code == 422
    names = GENERATORS if path == "/synthesize" else SERVED
    expected = f"model: must be one of those served here: {', '.join(names)}"
    assert answer.json()["detail"] == expected, "and not what was sent"


def test_one_kind_is_not_the_other(both, record: Record) -> None:
    assert both.post("/classify?model=ldm", content=as_npz(record)).status_code == 422
    assert both.post("/synthesize?model=prednet", content=b"{}").status_code == 422


def test_a_service_of_one_model_knows_its_name_alone(alone, record: Record) -> None:
    client = alone["prednet"]
    assert client.post("/classify?model=prednet", content=as_npz(record)).status_code == 200
    refused = client.post("/classify?model=prednet-large", content=as_npz(record))
    assert refused.json()["detail"].endswith("served here: prednet")


def test_the_models_and_the_page_tell_the_names(both) -> None:
    models = both.get("/models").json()["models"]
    assert [m["served_as"] for m in models] == [*SERVED, *GENERATORS]
    paths = both.get("/openapi.json").json()["paths"]
    for path, names in (("/classify", SERVED), ("/print", SERVED), ("/synthesize", GENERATORS)):
        (told,) = (p for p in paths[path]["post"]["parameters"] if p["name"] == "model")
        assert told["schema"] == {"type": "string", "enum": list(names), "default": names[0]}


def test_metrics_are_each_models_own(store: Path, record: Record) -> None:
    def count(name: str, metric: str) -> float:
        return REGISTRY.get_sample_value(metric, {"model": name}) or 0.0

    metrics = ("ecg_batch_segments_sum", "ecg_atrial_probability_count")
    with served(store, classifier="prednet,fake", generator="none") as client:
        before = [[count(n, m) for m in metrics] for n in ("prednet", "fake")]
        for _ in range(3):
            client.post("/classify?model=fake", content=as_npz(record)).raise_for_status()
        after = [[count(n, m) for m in metrics] for n in ("prednet", "fake")]
    assert np.subtract(after, before).tolist() == [[0, 0], [3, 3]]


def test_a_full_queue_of_one_does_not_refuse_for_the_other(store: Path) -> None:
    with served(store, classifier="prednet,fake", generator="none") as client:
        batcher = client.app.state.engine.classifications["fake"].batcher  # type: ignore[union-attr]
        batcher._queued = 10**9
        try:
            assert refuse_early(client.app, b"fs=100") is None  # type: ignore[arg-type]
            full = refuse_early(client.app, b"fs=100&model=fake")  # type: ignore[arg-type]
            assert full is not None and full.status_code == 429
            assert refuse_early(client.app, b"model=nobody") is None  # type: ignore[arg-type]
        finally:
            batcher._queued = 0


def test_a_key_is_good_for_an_endpoint_whatever_model_is_named(
    store: Path, tmp_path: Path, record: Record
) -> None:
    """Scopes and rates are the caller's, of all models together."""
    keys = Keys(tmp_path)
    settings = {"models_store": store, "classifier": BOTH, "generator": "none", "workers": 1}
    guarded = {"access": "on", "audit": "off", "database_url": keys.url}
    edge = create_app(Settings(**settings, **guarded))
    door = Door(edge, known_paths([edge]), edge)
    may, may_not = keys.make({"classify"}, per_minute=1), keys.make({"print"})

    async def asked(key: str, model: str) -> int:
        async with keyed(door, headers=bearer(key)) as client:
            return (await client.post(f"/classify?model={model}", content=body)).status_code

    async def play() -> list[int]:
        async with edge.router.lifespan_context(edge):
            refused = [await asked(may_not, name) for name in SERVED]
            return refused + [await asked(may, name) for name in SERVED]

    body = as_npz(record)
    assert asyncio.run(play()) == [403, 403, 200, 429]


def test_a_row_of_the_audit_has_the_chosen_models_hash(
    store: Path, tmp_path: Path, record: Record
) -> None:
    url = f"sqlite:///{tmp_path}/audit.sqlite"
    settings = {"audit": "on", "database_url": url, "audit_spool": tmp_path / "spool"}
    hashes = {n: load_classifier(store / n, "cpu").card.sha256 for n in SERVED}
    asked = {
        "/classify": hashes["prednet"],
        "/classify?model=prednet-large": hashes["prednet-large"],
        "/print?explain=1&model=prednet-large": hashes["prednet-large"],
        "/print?model=prednet-large": None,  # of a print without an explanation no model is asked
        "/classify?model=nobody": None,
    }
    with served(store, classifier=BOTH, generator="none", **settings) as client:
        ids = {
            path: client.post(path, content=as_npz(record)).headers["x-request-id"]
            for path in asked
        }
        broken = client.post("/classify?model=prednet-large", content=b"nonsense")
    engine = database.connect(url)
    found = {row.id: row.model_sha256 for row in commands.rows_of(engine)}
    engine.dispose()
    assert {path: found[ids[path]] for path in asked} == asked
    assert found[broken.headers["x-request-id"]] == hashes["prednet-large"]


@pytest.mark.parametrize("names", ["", "prednet,", "prednet,prednet", " ,ldm"])
def test_names_that_are_none_are_refused(names: str) -> None:
    with pytest.raises(ValidationError, match="each of them once"):
        Settings(classifier=names)


@pytest.mark.parametrize(("kind", "first"), [("classifier", "fake"), ("generator", "ldm")])
def test_a_service_does_not_start_without_one_of_several(
    store: Path, kind: str, first: str
) -> None:
    settings = {"classifier": "fake", "generator": "ldm", kind: f"{first},none"}
    with pytest.raises(StoreError, match="no card at"), served(store, **settings):
        pass


def test_told_to_stop_it_answers_what_both_were_asked(
    store: Path, tmp_path: Path, record: Record
) -> None:
    settings = {
        "ECG_MODELS_STORE": str(store),
        "ECG_CLASSIFIER": BOTH,
        "ECG_WORKERS": "1",
        "ECG_DRAIN_S": "1",
        "ECG_TIMEOUT_S": "600",
    }
    body, statuses = as_npz(record), {name: [] for name in SERVED}
    with running_service(tmp_path, **settings) as service:

        def ask(name: str) -> None:
            with httpx.Client(base_url=service.url, timeout=600) as client:
                path = f"/classify?explain=1&model={name}"  # as long as hundreds of answers
                statuses[name].append(client.post(path, content=body).status_code)

        asking = [threading.Thread(target=ask, args=(name,)) for name in SERVED]
        for thread in asking:
            thread.start()
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join()
        service.process.wait(120)
    assert statuses == {name: [200] for name in SERVED}
