"""The answer as a FHIR Bundle: valid in R4B and R5, and saying what the JSON answer says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.R4B.bundle import Bundle as BundleR4B
from starlette.testclient import TestClient

from ecg.formats import fhir as fhir_format
from ecg.record import Record
from ecg.statements import STATEMENTS
from service.edge import create_app
from service.fhir import bundle
from service.settings import Settings
from service.snomed import SNOMED, SNOMED_CODES
from tests.conftest import PTB_XL
from tests.service.bodies import as_json, as_npz, npz

MODELS = {"4.0": BundleR4B, "4.3": BundleR4B, "5.0": BundleR5}
RESEARCH = "For research; not for the care of patients."


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(audit="off"))) as client:
        yield client


def an_answer(**changes: Any) -> dict[str, Any]:
    """A JSON answer of one record, of every statement there is."""
    codes = list(STATEMENTS)
    result = {
        "record_id": "cart-7/1",
        "fs": 500,
        "leads": ["I", "II"],
        "ignored_channels": ["RESP"],
        "duration_s": 20.0,
        "quality": {
            "status": "poor",
            "reasons": [{"code": "flat_lead", "leads": ["V1"], "detail": "constant"}],
        },
        "atrial_substrate": {"status": "abnormal", "probability": 0.93, "threshold": 0.41},
        "statements": [
            {
                "code": code,
                "description": STATEMENTS[code].description,
                "probability": round(i / 100, 2),
                "threshold": 0.3,
                "present": i >= 30,
            }
            for i, code in enumerate(codes)
        ],
        "segments": [
            {"start_s": 0.0, "end_s": 10.0, "probability": 0.93},
            {"start_s": 10.0, "end_s": 20.0, "probability": None},
        ],
    }
    return {
        "request_id": "0f" * 16,
        "research_use_only": True,
        "model": {"name": "prednet", "version": "3", "sha256": "ab" * 32},
        "results": [result | changes],
    }


def abstained() -> dict[str, Any]:
    answer = an_answer()
    (result,) = answer["results"]
    result["quality"]["status"] = "unusable"
    result["atrial_substrate"] |= {"status": "abstained", "probability": None}
    for statement in result["statements"]:
        statement |= {"probability": None, "present": None}
    for segment in result["segments"]:
        segment["probability"] = None
    return answer


def resources(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for entry in made["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "reference" in value:
            yield value["reference"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from references(inner)


def measured(observation: dict[str, Any], name: str) -> Any:
    for component in observation["component"]:
        if component["code"]["coding"][0]["code"] == name:
            said = component.get("valueQuantity")
            assert said is not None or component["dataAbsentReason"]
            return said["value"] if said else None
    raise KeyError(name)


def as_answer(made: dict[str, Any]) -> dict[str, Any]:
    """The JSON answer, as far as it can be read off a Bundle."""
    by_url = {entry["fullUrl"]: entry["resource"] for entry in made["entry"]}
    (device,) = resources(made, "Device")
    names = device.get("name") or device.get("deviceName")
    results = []
    for report in resources(made, "DiagnosticReport"):
        quality, atrial, *statements = (by_url[r["reference"]] for r in report["result"])
        sampled = [c["valueSampledData"] for c in atrial["component"] if "valueSampledData" in c]
        listed = {
            c["code"]["coding"][0]["code"]: c.get("valueString") for c in quality["component"]
        }
        results.append(
            {
                "record_id": report["identifier"][0]["value"] if "identifier" in report else None,
                "fs": measured(quality, "sampling-frequency"),
                "leads": listed["leads"].split(", "),
                "ignored_channels": (listed.get("ignored-channels") or "").split(", "),
                "duration_s": measured(quality, "duration"),
                "quality": quality["valueCodeableConcept"]["coding"][0]["code"],
                "atrial_substrate": {
                    "status": atrial["valueCodeableConcept"]["coding"][0]["code"]
                    if "valueCodeableConcept" in atrial
                    else "abstained",
                    "probability": measured(atrial, "probability"),
                    "threshold": measured(atrial, "threshold"),
                },
                "statements": [_as_statement(statement) for statement in statements],
                "segments": [
                    None if p == "E" else float(p) for s in sampled for p in s["data"].split()
                ],
            }
        )
    model = {
        "name": names[0].get("name") or names[0].get("value"),
        "version": device["version"][0]["value"],
        "sha256": device["identifier"][0]["value"],
    }
    return {"request_id": made["identifier"]["value"], "model": model, "results": results}


def _as_statement(observation: dict[str, Any]) -> dict[str, Any]:
    own = observation["code"]["coding"][-1]
    present = None
    if "dataAbsentReason" not in observation:
        (interpretation,) = observation["interpretation"]
        present = interpretation["coding"][0]["code"] == "POS"
        value = observation["valueCodeableConcept"]["coding"][0]["code"]
        assert value == ("52101004" if present else "2667000")
    return {
        "code": own["code"],
        "description": own["display"],
        "probability": measured(observation, "probability"),
        "threshold": measured(observation, "threshold"),
        "present": present,
    }


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """The JSON answer without what a Bundle says otherwise."""
    results = []
    for given in answer["results"]:
        result = dict(given)
        result["quality"] = result["quality"]["status"]
        result["ignored_channels"] = result["ignored_channels"] or [""]
        several = [s["probability"] for s in result["segments"]]
        result["segments"] = several if len(several) > 1 else []
        results.append(result)
    return {
        "request_id": answer["request_id"], "model": answer["model"], "results": results
    }  # fmt: skip


ANSWERS = {"answered": an_answer(), "abstained": abstained(), "nameless": an_answer(record_id=None)}


@pytest.mark.parametrize("version", MODELS)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_bundle_is_valid_and_its_references_resolve(answer: Any, version: Any) -> None:
    content = orjson.dumps(bundle(answer, version))
    MODELS[version].model_validate_json(content)
    made = json.loads(content)
    urls = [entry["fullUrl"] for entry in made["entry"]]
    assert len(set(urls)) == len(urls)
    found = list(references(made))
    assert found and set(found) <= set(urls)
    assert set(urls) - set(found) == {
        e["fullUrl"] for e in made["entry"] if e["resource"]["resourceType"] == "Provenance"
    }


@pytest.mark.parametrize("version", MODELS)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_it_says_what_the_json_answer_says(answer: Any, version: Any) -> None:
    assert as_answer(bundle(answer, version)) == comparable(answer)


@pytest.mark.parametrize("version", MODELS)
def test_every_resource_says_that_it_is_for_research(version: Any) -> None:
    made = bundle(an_answer(), version)
    for resource in [made, *(entry["resource"] for entry in made["entry"])]:
        assert resource["meta"]["tag"][0]["display"] == RESEARCH
        assert resource["meta"]["security"][0]["code"] == "HRESCH"
    (report,) = resources(made, "DiagnosticReport")
    assert report["conclusion"].startswith(RESEARCH)
    (device,) = resources(made, "Device")
    assert device["note"] == [{"text": RESEARCH}]


def test_the_study_the_findings_and_the_risk_have_their_public_codes() -> None:
    made = bundle(an_answer(), "4.0")
    (report,) = resources(made, "DiagnosticReport")
    assert report["code"]["coding"][0]["system"] == "http://loinc.org"
    assert report["code"]["coding"][0]["code"] == "11524-6"
    assert report["status"] == "partial"
    codes = {o["code"]["coding"][-1]["code"]: o["code"] for o in resources(made, "Observation")}
    for statement, snomed in (
        ("AFIB", "164889003"),
        ("LAO/LAE", "67741000119109"),
        ("RAO/RAE", "446358003"),
    ):
        assert codes[statement]["coding"][0] == {
            "system": SNOMED, "code": snomed, "display": SNOMED_CODES[statement][1]
        }  # fmt: skip
    assert [c["system"] for c in codes["STD_"]["coding"]] == ["urn:x-ecg-direnet:scp-statement"]
    (risk,) = resources(made, "RiskAssessment")
    (prediction,) = risk["prediction"]
    assert prediction["probabilityDecimal"] == 0.93
    (basis,) = risk["basis"]
    by_url = {entry["fullUrl"]: entry["resource"] for entry in made["entry"]}
    assert by_url[basis["reference"]]["code"]["coding"][0]["code"] == "atrial-substrate"
    assert by_url[risk["performer"]["reference"]]["resourceType"] == "Device"


def test_a_snomed_code_is_of_a_statement_of_ours_and_of_one_alone() -> None:
    assert set(SNOMED_CODES) <= set(STATEMENTS)
    assert len({code for code, _ in SNOMED_CODES.values()}) == len(SNOMED_CODES)
    assert all(_verhoeff(code) == 0 for code, _ in SNOMED_CODES.values())


def _verhoeff(digits: str) -> int:
    """0 where the check digit of a SNOMED CT identifier is right: the dihedral group of ten."""

    def times(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else (a + b) % 5 + 5
        return (a - b) % 5 + 5 if b < 5 else (a - b) % 5

    turn = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    check = 0
    for i, digit in enumerate(map(int, reversed(digits))):
        for _ in range(i % 8):
            digit = turn[digit]
        check = times(check, digit)
    return check


@pytest.mark.parametrize("version", MODELS)
def test_an_abstention_is_one_everywhere(version: Any) -> None:
    made = bundle(abstained(), version)
    (report,) = resources(made, "DiagnosticReport")
    assert "Abstained" in report["conclusion"]
    quality, *findings = resources(made, "Observation")
    assert quality["valueCodeableConcept"]["coding"][0]["code"] == "unusable"
    for finding in findings:
        assert finding["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
        assert not {"valueCodeableConcept", "interpretation"} & set(finding)
    (risk,) = resources(made, "RiskAssessment")
    assert "probabilityDecimal" not in risk["prediction"][0]


def test_of_the_patient_nothing_is_said() -> None:
    made = bundle(an_answer(), "5.0")
    subjects = [e["resource"]["subject"] for e in made["entry"] if "subject" in e["resource"]]
    assert subjects == [{"type": "Patient", "display": "Not identified"}]
    assert not resources(made, "Patient")


def test_where_it_comes_from_is_said_of_everything() -> None:
    made = bundle(an_answer(), "4.0")
    (provenance,) = resources(made, "Provenance")
    said_of = {target["reference"] for target in provenance["target"]}
    rest = {
        entry["fullUrl"]
        for entry in made["entry"]
        if entry["resource"]["resourceType"] not in ("Device", "Provenance")
    }
    assert said_of == rest
    assert provenance["agent"][0]["who"] == {"reference": made["entry"][0]["fullUrl"]}
    assert provenance["entity"][0]["what"]["identifier"]["value"] == "cart-7/1"


# Through the service


def ask(client: TestClient, body: bytes, query: str = "", accept: str | None = None) -> Any:
    headers = {"Accept": accept} if accept else {}
    return client.post(f"/classify{query}", content=body, headers=headers)


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_the_services_bundle_equals_its_json(
    client: TestClient, records: dict[str, Record], version: str
) -> None:
    for name in PTB_XL:
        body = as_json(records[name], record_id=name)
        plain = ask(client, body).json()
        answer = ask(client, body, f"?fhir={version}")
        number = {"R4": "4.0", "R5": "5.0"}[version]
        assert answer.headers["content-type"] == f"application/fhir+json; fhirVersion={number}"
        MODELS[number].model_validate_json(answer.content)
        said = as_answer(answer.json())
        assert said["request_id"] == answer.headers["x-request-id"]
        assert said | {"request_id": ""} == comparable(plain) | {"request_id": ""}


def test_a_record_that_is_no_ecg_abstains(client: TestClient, record: Record) -> None:
    flat = Record(np.zeros_like(record.sig), record.fs, record.leads)
    answer = ask(client, as_npz(flat), "?format=fhir")
    assert answer.status_code == 200
    BundleR4B.model_validate_json(answer.content)
    assert as_answer(answer.json())["results"][0]["atrial_substrate"]["status"] == "abstained"


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_64_records_are_64_reports_in_their_order(
    client: TestClient, records: dict[str, Record], version: str
) -> None:
    sig = np.stack([records[PTB_XL[i % 4]].sig for i in range(64)])
    body = npz(sig=sig, fs=100, leads=np.array(records[PTB_XL[0]].leads), units="mV")
    answer = ask(client, body, f"?fhir={version}")
    MODELS[{"R4": "4.0", "R5": "5.0"}[version]].model_validate_json(answer.content)
    said = as_answer(answer.json())["results"]
    assert len(said) == 64
    assert len(resources(answer.json(), "Device")) == 1
    plain = comparable(ask(client, body).json())["results"]
    for one, other in zip(said, plain, strict=True):
        assert one["atrial_substrate"]["status"] == other["atrial_substrate"]["status"]


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", None, "application/json"),
        ("", "application/json", "application/json"),
        ("", "text/html, */*;q=0.1", "application/json"),
        ("", "application/fhir+json", "application/fhir+json; fhirVersion=4.0"),
        ("", "Application/FHIR+JSON; fhirVersion=4.0", "application/fhir+json; fhirVersion=4.0"),
        ("", "application/fhir+json;fhirVersion=4.3", "application/fhir+json; fhirVersion=4.3"),
        ("", 'application/fhir+json; fhirVersion="5.0"', "application/fhir+json; fhirVersion=5.0"),
        ("", "application/fhir+json;fhirVersion=5.0;q=0.2, application/json", "application/json"),
        (
            "",
            "application/fhir+json; fhirVersion=3.0, application/fhir+json; fhirVersion=5.0; q=0.5",
            "application/fhir+json; fhirVersion=5.0",
        ),
        ("?format=fhir", None, "application/fhir+json; fhirVersion=4.0"),
        ("?format=fhir", "text/html", "application/fhir+json; fhirVersion=4.0"),
        (
            "?format=fhir",
            "application/fhir+json; fhirVersion=5.0",
            "application/fhir+json; fhirVersion=5.0",
        ),
        ("?format=fhir&fhir=r5", None, "application/fhir+json; fhirVersion=5.0"),
        ("?fhir=R4B", "application/json", "application/fhir+json; fhirVersion=4.3"),
        ("?format=json", "application/fhir+json", "application/json"),
    ],
)
def test_what_is_asked_for_is_sent(
    client: TestClient, record: Record, query: str, accept: str | None, media_type: str
) -> None:
    answer = ask(client, as_npz(record), query, accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)


@pytest.mark.parametrize(
    ("query", "accept", "status", "says"),
    [
        ("?format=xml", None, 422, "format: must be json or fhir"),
        ("?format=fhir&fhir=R3", None, 422, "fhir: must be R4, R4B or R5"),
        ("", "application/fhir+json; fhirVersion=3.0", 406, "fhirVersion=5.0"),
        ("", "application/fhir+xml", 406, "application/fhir+json; fhirVersion=4.0"),
        ("", "text/csv", 406, "application/json"),
    ],
)
def test_what_is_not_there_to_send_is_refused(
    client: TestClient, record: Record, query: str, accept: str | None, status: int, says: str
) -> None:
    answer = ask(client, as_npz(record), query, accept)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_an_error_stays_a_problem(client: TestClient) -> None:
    answer = ask(client, b"{", "?format=fhir", "application/fhir+json")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_fhir_in_and_out(client: TestClient, record: Record) -> None:
    answer = ask(client, fhir_format.write(record, "R4"), "", "application/fhir+json")
    plain = ask(client, as_npz(record)).json()
    said = as_answer(answer.json())["results"][0]["atrial_substrate"]
    assert said == pytest.approx(plain["results"][0]["atrial_substrate"], abs=1e-5)


def test_the_openapi_page_names_both_answers(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/classify"]["post"]
    assert set(operation["responses"]["200"]["content"]) == {
        "application/json", "application/fhir+json"
    }  # fmt: skip
    assert {"format", "fhir"} <= {p["name"] for p in operation["parameters"]}
    assert "application/fhir+json" in operation["requestBody"]["content"]
