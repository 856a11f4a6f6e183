"""`explain=1` of a real service with the shipped model: what it says, and that it is so."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from ecg.leads import INDEPENDENT_LEADS
from ecg.record import Record
from service.settings import Settings
from tests.conftest import PTB_XL
from tests.service.bodies import as_npz, npz

NORMAL, _, _, AFIB = PTB_XL
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, timeout=60) as client:
        yield client


def classify(client: httpx.Client, record: Record, explain: str = "1") -> dict:
    answer = client.post("/classify", content=as_npz(record), params={"explain": explain})
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return result


@pytest.fixture(scope="module")
def afib(client: httpx.Client, records: dict[str, Record]) -> dict:
    return classify(client, records[AFIB])


def flattened(record: Record, explanation: dict, which: np.ndarray) -> Record:
    """The record with straight lines in the windows `which` [lead, window], and nothing derived
    that would bring them back."""
    leads = explanation["leads"]
    sig = record.sig[[record.leads.index(lead) for lead in leads]].copy()
    width = round(explanation["window_s"] * record.fs)
    gone = np.repeat(which, width, axis=1)
    time = np.arange(sig.shape[1])
    for row, out in zip(sig, gone, strict=True):
        row[out] = np.interp(time[out], time[~out], row[~out])
    return dataclasses.replace(record, sig=sig, leads=tuple(leads))


def test_an_explanation_has_its_fields_and_changes_nothing_else(
    client: httpx.Client, records: dict[str, Record], afib: dict
) -> None:
    plain = classify(client, records[AFIB], "0")
    assert "explanation" not in plain
    assert {k: v for k, v in afib.items() if k != "explanation"} == plain
    e = afib["explanation"]
    assert (e["segment"], e["start_s"], e["end_s"], e["window_s"]) == (0, 0.0, 10.0, 0.2)
    assert e["leads"] == list(INDEPENDENT_LEADS)
    importance = np.array(e["importance"])
    assert importance.shape == (8, 50)
    assert np.abs(importance).max() == 1.0 and e["scale"] > 0
    assert e["toward"] == "abnormal" and "not what causes" in e["note"]
    assert e["check"]["probability"] == afib["atrial_substrate"]["probability"]


def test_flattening_what_it_names_does_to_the_answer_what_it_says(
    client: httpx.Client, records: dict[str, Record], afib: dict
) -> None:
    """Posted as a record of its own: the check's figure, and each window's."""
    e = afib["explanation"]
    importance = np.array(e["importance"])
    named = np.zeros(400, dtype=bool)
    named[np.argsort(-importance, axis=None, kind="stable")[:40]] = True
    without = classify(client, flattened(records[AFIB], e, named.reshape(8, 50)), "0")
    probability = without["atrial_substrate"]["probability"]
    assert probability == pytest.approx(e["check"]["without_named"], abs=0.02)
    assert probability < e["check"]["without_random"] - 0.1
    first = importance == importance.max()
    (one,) = (classify(client, flattened(records[AFIB], e, first), "0"),)
    odds = [
        np.log(p / (1 - p))
        for p in (e["check"]["probability"], one["atrial_substrate"]["probability"])
    ]
    assert odds[0] - odds[1] == pytest.approx(e["scale"], abs=0.02)


def test_a_normal_answer_names_what_lowered_it(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    e = classify(client, records[NORMAL])["explanation"]
    assert e["toward"] == "normal"
    check = e["check"]
    assert check["without_named"] > check["without_random"]
    assert check["without_named"] > check["probability"]


def test_only_the_leads_that_were_read_are_explained(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    record = records[AFIB]
    two = dataclasses.replace(record, sig=record.sig[[1, 6]], leads=("II", "V1"))
    e = classify(client, two)["explanation"]
    assert e["leads"] == ["II", "V1"]
    assert np.shape(e["importance"]) == (2, 50)


def long(records: dict[str, Record]) -> Record:
    """27 s: normal, then atrial fibrillation, then 7 s of the normal one again."""
    normal, fibrillating = records[NORMAL], records[AFIB]
    sig = np.concatenate([normal.sig, fibrillating.sig, normal.sig[:, :700]], axis=1)
    return dataclasses.replace(normal, sig=sig)


def test_of_a_long_record_the_deciding_segment_is_explained(
    client: httpx.Client, records: dict[str, Record], afib: dict
) -> None:
    e = classify(client, long(records))["explanation"]
    assert (e["segment"], e["start_s"], e["end_s"]) == (1, 10.0, 20.0)
    # the resampled pieces are the same samples, so the windows are worth about the same
    first, second = (np.array(x["importance"]) for x in (afib["explanation"], e))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99


def test_where_the_model_abstains_there_is_nothing_to_explain(
    client: httpx.Client, record: Record
) -> None:
    flat = dataclasses.replace(record, sig=np.zeros_like(record.sig))
    assert classify(client, flat)["explanation"] is None
    svg = client.post("/print", content=as_npz(flat), params={"explain": "1"})
    assert svg.status_code == 200 and "gave no answer" in svg.text
    assert "data-shade=" not in svg.text


def test_more_records_than_are_explained_are_refused(client: httpx.Client, record: Record) -> None:
    n = Settings().max_explained
    sig = np.repeat(record.sig[None, :2], n + 1, axis=0)
    body = npz(sig=sig, fs=100, leads=np.array(record.leads[:2]), units="mV")
    refused = client.post("/classify", content=body, params={"explain": "true"})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(f"explain: at most {n} records")
    assert client.post("/classify", content=body).status_code == 200


@pytest.mark.parametrize("path", ["/classify", "/print"])
def test_a_flag_that_is_none_is_refused(client: httpx.Client, record: Record, path: str) -> None:
    refused = client.post(path, content=as_npz(record), params={"explain": "please"})
    assert refused.status_code == 422
    assert refused.json()["detail"] == "explain: must be 1 or 0"


def shades(svg: str) -> list[tuple[str, float, float, float]]:
    """(lead, x, y, width) of each shade, in mm."""
    found = ET.fromstring(svg).iter(f"{SVG}rect")
    return [
        (r.get("data-shade") or "", *(float(r.get(k) or 0) for k in ("x", "y", "width")))
        for r in found
        if r.get("data-shade")
    ]


def test_the_print_is_shaded_where_the_explanation_is_darkest(
    client: httpx.Client, records: dict[str, Record], afib: dict
) -> None:
    body = as_npz(records[AFIB])
    plain = client.post("/print", content=body).text
    svg = client.post("/print", content=body, params={"explain": "1"}).text
    assert not shades(plain) and "data-shaded" not in plain
    importance = np.array(afib["explanation"]["importance"])
    row, window = np.unravel_index(np.argmax(importance), importance.shape)
    lead, x = afib["explanation"]["leads"][row], 20.0 + 5.0 * window
    over = [s for s in shades(svg) if s[0] == lead and s[1] <= x < s[1] + s[3]]
    assert over, "the darkest window is in the map, wherever its trace is"
    assert {s[0] for s in shades(svg)} <= set(INDEPENDENT_LEADS)
    assert "darker = more" in svg
    png = client.post(
        "/print", content=body, params={"explain": "1"}, headers={"Accept": "image/png"}
    )
    assert png.content.startswith(b"\x89PNG")


def test_a_print_begins_at_the_deciding_segment_or_where_it_is_asked_to(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    body = as_npz(long(records))

    def shaded(**query: str) -> str:
        answer = client.post("/print", content=body, params={"explain": "1", **query})
        assert answer.status_code == 200, answer.text
        return answer.text

    assert "10 to 20 s of 27 s" in shaded() and "probability of 10 to 20 s" in shaded()
    normal = shaded(start_s="0")
    assert "0 to 10 s of 27 s" in normal and "lowered the atrial probability of 0 to 10 s" in normal
    assert "probability of 10 to 20 s" in shaded(start_s="17"), "of two, the one that decides"
    assert "probability of 20 to 27 s" in shaded(start_s="20")


def test_a_remainder_too_short_for_a_segment_is_not_explained(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    record = records[NORMAL]
    sig = np.concatenate([record.sig, record.sig[:, :50]], axis=1)
    body = as_npz(dataclasses.replace(record, sig=sig))
    answer = client.post("/print", content=body, params={"explain": "1", "start_s": "10.2"})
    assert answer.status_code == 200 and "gave no answer" in answer.text


def test_others_are_answered_while_explanations_run(
    client: httpx.Client, records: dict[str, Record]
) -> None:
    """Explanations take turns: the plain requests that come after them are not the last."""
    body = as_npz(records[AFIB])

    def ask(explain: str) -> httpx.Response:
        return client.post("/classify", content=body, params={"explain": explain})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, ["1", "1", "0", "0", "0", "0"]))
    assert {a.status_code for a in answers} <= {200, 429}
    good = [a.json()["results"][0]["atrial_substrate"] for a in answers if a.status_code == 200]
    assert len(good) >= 4 and all(g == good[0] for g in good)


def test_it_is_documented(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    for path in ("/classify", "/print"):
        named = [p["name"] for p in schema["paths"][path]["post"]["parameters"]]
        assert named.count("explain") == 1 and "fs" in named
    assert "explanation" in schema["components"]["schemas"]["RecordAnswer"]["properties"]
