"""`POST /classify` of a real service with the shipped model, as API.md says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from scipy.signal import resample_poly

from ecg.record import Record
from ecg.statements import ATRIAL_STATEMENTS
from tests.conftest import PTB_XL, wfdb_files
from tests.service.bodies import as_csv, as_json, as_npz, as_parts, as_zip, npz


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, timeout=30) as client:
        yield client


def probabilities(answer: httpx.Response) -> np.ndarray:
    """[record, 1 + statements]."""
    assert answer.status_code == 200, answer.text
    return np.array(
        [
            [r["atrial_substrate"]["probability"], *(s["probability"] for s in r["statements"])]
            for r in answer.json()["results"]
        ]
    )


def ask(client: httpx.Client, body: bytes, **query: str) -> np.ndarray:
    return probabilities(client.post("/classify", content=body, params=query))


def test_an_answer_has_the_contracts_fields(client: httpx.Client, record: Record) -> None:
    answer = client.post("/classify", content=as_json(record, record_id="cart-7/1")).json()
    assert answer["research_use_only"] is True
    assert set(answer["model"]) == {"name", "version", "sha256"}
    (result,) = answer["results"]
    assert result["record_id"] == "cart-7/1"
    assert result["fs"] == 100
    assert result["leads"] == list(record.leads)
    assert result["ignored_channels"] == []
    assert result["duration_s"] == 10.0
    quality = result["quality"]
    assert (quality["status"], quality["reasons"]) == ("acceptable", [])
    assert 0.5 < quality["score"] <= 1
    atrial = result["atrial_substrate"]
    assert atrial["status"] in ("normal", "abnormal")
    assert (atrial["status"] == "abnormal") == (atrial["probability"] >= atrial["threshold"])
    assert len(result["statements"]) >= 30
    assert {"code", "description", "probability", "threshold", "present"} == set(
        result["statements"][0]
    )
    (segment,) = result["segments"]
    assert segment == {"start_s": 0.0, "end_s": 10.0, "probability": atrial["probability"]}


def test_it_finds_fibrillation_and_its_absence(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    normal, _, _, fibrillating = (records[name] for name in PTB_XL)
    results = client.post("/classify", content=npz_of([normal, fibrillating])).json()["results"]
    assert [r["atrial_substrate"]["status"] for r in results] == ["normal", "abnormal"]
    afib = [next(s for s in r["statements"] if s["code"] == "AFIB") for r in results]
    assert [s["present"] for s in afib] == [False, True]


@pytest.mark.parametrize("name", PTB_XL)
def test_no_answer_states_fibrillation_in_a_normal_substrate(
    client: httpx.Client, records: dict[str, Record], name: str
) -> None:
    (result,) = client.post("/classify", content=as_npz(records[name])).json()["results"]
    atrial = result["atrial_substrate"]
    for s in result["statements"]:
        if s["code"] in ATRIAL_STATEMENTS:
            assert s["probability"] <= atrial["probability"]
            assert atrial["status"] == "abnormal" or not s["present"]


def npz_of(records: list[Record]) -> bytes:
    first = records[0]
    return npz(
        sig=np.stack([r.sig for r in records]),
        fs=first.fs,
        leads=np.array(first.leads),
        units="mV",
    )


@pytest.mark.parametrize("name", PTB_XL)
def test_every_layout_of_a_record_gets_the_same_answer(
    client: httpx.Client, records: dict[str, Record], name: str
) -> None:
    record, files = records[name], wfdb_files(name)
    shuffled = np.random.default_rng(1).permutation(len(record.leads))
    mixed = dataclasses.replace(
        record, sig=record.sig[shuffled], leads=tuple(record.leads[i].upper() for i in shuffled)
    )
    expected = probabilities(client.post("/classify", files=as_parts(files)))
    answers = {
        "wfdb zip": ask(client, as_zip(files)),
        "npz": ask(client, as_npz(record)),
        "npz int16 uV": ask(client, as_npz(record, "uV", "int16")),
        "npz data": ask(client, npz(data=record.sig.T[None]), fs="100", units="mV",
                        leads=",".join(record.leads)),
        "csv": ask(client, as_csv(record), fs="100", units="mV"),
        "csv uV": ask(client, as_csv(mixed, "uV"), fs="100", units="uV"),
        "json": ask(client, as_json(record)),
        "json uV shuffled": ask(client, as_json(mixed, "uV")),
    }  # fmt: skip
    for layout, got in answers.items():
        assert np.abs(got - expected).max() < 1e-5, layout


@pytest.mark.parametrize("name", PTB_XL)
@pytest.mark.parametrize("fs", [250, 500])
def test_the_sampling_frequency_hardly_matters(
    client: httpx.Client, records: dict[str, Record], name: str, fs: int
) -> None:
    record = records[name]
    finer = dataclasses.replace(
        record, sig=resample_poly(record.sig, fs // 50, 2, axis=1, padtype="line"), fs=fs
    )
    assert np.abs(ask(client, as_npz(finer)) - ask(client, as_npz(record))).max() < 0.02


def test_the_order_of_records_is_kept_and_one_does_not_change_another(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    together = ask(client, npz_of([records[name] for name in PTB_XL]))
    alone = np.concatenate([ask(client, as_npz(records[name])) for name in PTB_XL])
    assert np.abs(together - alone).max() < 1e-5


def test_a_paroxysm_in_a_long_record_shows_and_does_not_vanish(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    normal, _, _, fibrillating = (records[name].sig for name in PTB_XL)
    sig = np.concatenate([normal] * 3 + [fibrillating] + [normal] * 2 + [normal[:, :300]], axis=1)
    long = dataclasses.replace(records[PTB_XL[0]], sig=sig)
    (result,) = client.post("/classify", content=as_npz(long)).json()["results"]
    segments = result["segments"]
    assert [(s["start_s"], s["end_s"]) for s in segments[-2:]] == [(50.0, 60.0), (60.0, 63.0)]
    assert np.argmax([s["probability"] for s in segments]) == 3
    assert result["atrial_substrate"]["status"] == "abnormal"
    assert result["atrial_substrate"]["probability"] == segments[3]["probability"]


@pytest.mark.parametrize("leads", [("II",), ("I",), ("I", "II"), ("aVF", "V2"), ("III", "aVR")])
def test_any_subset_of_leads_is_answered(
    client: httpx.Client, records: dict[str, Record], leads: tuple[str, ...]
) -> None:
    record = records[PTB_XL[3]]
    few = dataclasses.replace(
        record, sig=record.sig[[record.leads.index(name) for name in leads]], leads=leads
    )
    (result,) = client.post("/classify", content=as_npz(few)).json()["results"]
    # aVF alone determines no independent lead, but V2 beside it is one
    assert result["atrial_substrate"]["status"] != "abstained"


def test_a_flat_record_and_one_that_is_no_ecg_abstain(client: httpx.Client, record: Record) -> None:
    time = np.arange(1000) / 100
    flat = dataclasses.replace(record, sig=np.zeros_like(record.sig))
    sine = dataclasses.replace(
        record, sig=np.sin(2 * np.pi * 6 * time)[None].astype("f4"), leads=("V1",)
    )
    for body in (as_npz(flat), as_npz(sine)):
        (result,) = client.post("/classify", content=body).json()["results"]
        assert result["quality"]["status"] == "unusable"
        assert result["quality"]["reasons"]
        assert result["atrial_substrate"]["status"] == "abstained"
        assert result["atrial_substrate"]["probability"] is None
        assert {s["probability"] for s in result["statements"]} == {None}
        assert {s["present"] for s in result["statements"]} == {None}
        assert result["segments"][0]["probability"] is None


def test_short_gaps_are_bridged_and_long_ones_cost_the_lead(
    client: httpx.Client, record: Record
) -> None:
    short, long = record.sig.copy(), record.sig.copy()
    short[:, 100:120] = np.nan
    long[6, 100:130] = np.nan
    results = [
        client.post("/classify", content=as_npz(dataclasses.replace(record, sig=sig))).json()
        for sig in (short, long)
    ]
    bridged, poor = (r["results"][0]["quality"] for r in results)
    assert bridged["status"] == "acceptable"
    assert poor["status"] == "poor"
    assert [(r["code"], r["leads"]) for r in poor["reasons"]] == [("gap", ["V1"])]


def test_other_channels_of_a_device_file_are_ignored_and_named(client: httpx.Client) -> None:
    files = wfdb_files(PTB_XL[0])
    header = files[0].content.replace(b" 0 V6", b" 0 RESP")
    renamed = [dataclasses.replace(files[0], content=header), files[1]]
    (result,) = client.post("/classify", files=as_parts(renamed)).json()["results"]
    assert result["ignored_channels"] == ["RESP"]
    assert "V6" not in result["leads"]


def test_a_hand_held_recorders_file_is_answered(client: httpx.Client) -> None:
    files = wfdb_files("A00004", (".hea", ".mat"))
    (result,) = client.post("/classify", files=as_parts(files)).json()["results"]
    assert result["leads"] == ["I"]
    assert len(result["segments"]) == 3
    assert result["atrial_substrate"]["status"] == "abnormal"


def test_the_models_and_the_openapi_page(client: httpx.Client) -> None:
    card, *_ = client.get("/models").json()["models"]
    assert card["not_for"] and card["metrics"] and card["device"] == "cpu"
    assert "swagger-ui" in client.get("/docs").text
    schema = client.get("/openapi.json").json()
    assert {"/classify", "/print", "/models"} <= set(schema["paths"])
    for path in ("/livez", "/readyz", "/metrics", "/", "/static/docs.js"):
        assert client.get(path).status_code == 200, path


def test_an_answer_that_is_not_json_is_406(client: httpx.Client, record: Record) -> None:
    body = as_npz(record)
    for accept, status in (("text/csv", 406), ("application/*;q=0.5, text/html", 200)):
        answer = client.post("/classify", content=body, headers={"Accept": accept})
        assert answer.status_code == status, accept


def test_the_print_comes_as_svg_or_png(client: httpx.Client, record: Record) -> None:
    svg = client.post("/print", content=as_npz(record))
    assert svg.headers["content-type"].startswith("image/svg+xml")
    assert "<svg" in svg.text
    png = client.post("/print", content=as_npz(record), headers={"Accept": "image/png"})
    assert png.content.startswith(b"\x89PNG")
    other = client.post("/print", content=as_npz(record), headers={"Accept": "text/plain"})
    assert other.status_code == 406
