"""The answer of `/classify` as a FHIR Bundle, R4 (valid as R4B, too) or R5.

What it says is what the JSON answer says: it is built from that. Nothing is known of the patient,
and nothing is said: a subject is named only where FHIR demands one, and not identified. Built as
plain objects, for building them through fhir.resources takes a hundred times as long; the tests
validate every kind of answer against its models.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ecg.errors import UnservableError
from ecg.statements import ATRIAL_STATEMENTS
from service import problems
from service.answering import accept_ranges
from service.snomed import SNOMED, SNOMED_CODES

Version = Literal["4.0", "4.3", "5.0"]  # R4, R4B, R5, as in a media type's `fhirVersion`
Json = dict[str, Any]

MEDIA_TYPE = "application/fhir+json"
_VERSIONS: dict[str, Version] = {
    "r4": "4.0", "4.0": "4.0", "4.0.1": "4.0",
    "r4b": "4.3", "4.3": "4.3", "4.3.0": "4.3",
    "r5": "5.0", "5.0": "5.0", "5.0.0": "5.0",
}  # fmt: skip
RESEARCH = "For research; not for the care of patients."

OWN = "urn:x-ecg-direnet"  # what no public code system has
_HL7 = "http://terminology.hl7.org/CodeSystem"
_UCUM = "http://unitsofmeasure.org"


def coded(system: str, code: str, display: str | None = None, text: str | None = None) -> Json:
    """A CodeableConcept of one coding."""
    coding = {"system": system, "code": code} | ({"display": display} if display else {})
    return {"coding": [coding]} | ({"text": text} if text else {})


_META = {
    "security": [{"system": f"{_HL7}/v3-ActReason", "code": "HRESCH"}],
    "tag": [{"system": f"{OWN}:use", "code": "research-use-only", "display": RESEARCH}],
}
_STUDY = coded("http://loinc.org", "11524-6", "EKG study")
_PROCEDURE = [coded(f"{_HL7}/observation-category", "procedure", "Procedure")]
_PROXY = (
    "An open proxy: abnormal is any of "
    f"{', '.join(ATRIAL_STATEMENTS)}; not measured by mapping the atrium."
)
_ATRIAL = coded(f"{OWN}:finding", "atrial-substrate", "Atrial substrate", "Atrial substrate")
_VALUES = {
    True: coded(SNOMED, "52101004", "Present"),
    False: coded(SNOMED, "2667000", "Absent"),
}
_INTERPRETATIONS = {
    True: [coded(f"{_HL7}/v3-ObservationInterpretation", "POS", "Positive", "present")],
    False: [coded(f"{_HL7}/v3-ObservationInterpretation", "NEG", "Negative", "absent")],
}
# The model never ran on what the quality gate refused.
_NOT_PERFORMED = coded(f"{_HL7}/data-absent-reason", "not-performed", "Not Performed", "abstained")
_NOT_IDENTIFIED = {"type": "Patient", "display": "Not identified"}


def asked(request: Request) -> Version | None:
    """The version of FHIR that a request asks for, None where it asks for plain JSON. The query
    comes before `Accept`. Errors: UnservableError, Problem 406."""
    form, named = (request.query_params.get(name) for name in ("format", "fhir"))
    if form not in (None, "json", "fhir"):
        raise UnservableError("must be json or fhir", "format")
    if named is not None and named.lower() not in _VERSIONS:
        raise UnservableError("must be R4, R4B or R5", "fhir")
    if form == "json":
        return None
    if named is not None:
        return _VERSIONS[named.lower()]
    for media_type, *parameters in accept_ranges(request):
        if media_type == MEDIA_TYPE:
            version = _VERSIONS.get(_fhir_version(parameters))
            if version:
                return version
        elif form is None and media_type in ("application/json", "application/*", "*/*"):
            return None
    if form == "fhir":
        return "4.0"
    offered = [f"{MEDIA_TYPE}; fhirVersion={version}" for version in ("4.0", "4.3", "5.0")]
    raise problems.not_acceptable(", ".join(["application/json", *offered]))


def _fhir_version(parameters: list[str]) -> str:
    for parameter in parameters:
        key, _, value = parameter.strip().partition("=")
        if key == "fhirversion":
            return value.strip().strip('"')
    return "4.0"


def response(answer: Json, version: Version) -> Response:
    """The answer, as it would be sent as JSON, in a Bundle."""
    plain = orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))
    body = orjson.dumps(bundle(plain, version))
    return Response(body, media_type=f"{MEDIA_TYPE}; fhirVersion={version}")


def bundle(answer: Json, version: Version) -> Json:
    """The JSON answer, as a client would parse it, as a collection."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    device = _entry(_device(answer["model"], version))
    entries = [device]
    for result in answer["results"]:
        entries += _of_record(result, _reference(device), version, now)
    return {
        "resourceType": "Bundle",
        "meta": _META,
        "identifier": {"system": f"{OWN}:request", "value": answer["request_id"]},
        "type": "collection",
        "timestamp": now,
        "entry": entries,
    }


def _of_record(result: Json, device: Json, version: Version, now: str) -> list[Json]:
    """A report, its findings, the risk, and where all of it comes from."""
    given = result["record_id"] if (result["record_id"] or "").strip() else None
    identifier = {"identifier": [{"system": f"{OWN}:record", "value": given}]} if given else {}
    findings = [_entry(_quality(result, device)), _entry(_atrial(result, device, version))]
    findings += [_entry(_statement(s, device)) for s in result["statements"]]
    report = _entry(
        {
            "resourceType": "DiagnosticReport",
            "meta": _META,
            **identifier,
            # HL7 defines `partial` as what may be unverified, and `preliminary` as verified early
            # results; nobody has verified these.
            "status": "partial",
            "category": [coded(f"{_HL7}/v2-0074", "EC", "Electrocardiac (e.g., EKG, EEC, Holter)")],
            "code": _STUDY,
            "issued": now,
            "result": [_reference(entry) for entry in findings],
            "conclusion": _conclusion(result),
        }
    )
    risk = _entry(_risk(result, device, _reference(findings[1]), now) | identifier)
    made = [report, *findings, risk]
    source: Json = {"display": "The ECG that was sent"}
    if given:
        source["identifier"] = identifier["identifier"][0]
    provenance = {
        "resourceType": "Provenance",
        "meta": _META,
        "target": [_reference(entry) for entry in made],
        "recorded": now,
        "agent": [{"type": coded(f"{_HL7}/provenance-participant-type", "author"), "who": device}],
        "entity": [{"role": "source", "what": source}],
    }
    return [*made, _entry(provenance)]


def _entry(resource: Json) -> Json:
    return {"fullUrl": uuid.uuid4().urn, "resource": resource}


def _reference(entry: Json) -> Json:
    return {"reference": entry["fullUrl"]}


def _device(model: Json, version: Version) -> Json:
    """The model that answered."""
    name, kind = ("name", "value") if version == "5.0" else ("deviceName", "name")
    software = {"text": "ECG classification model (software)"}
    return {
        "resourceType": "Device",
        "meta": _META,
        "identifier": [
            {
                "type": {"text": "SHA-256 of the model's weights"},
                "system": f"{OWN}:model-sha256",
                "value": model["sha256"],
            }
        ],
        "status": "active",
        name: [{kind: model["name"], "type": "user-friendly-name"}],
        "type": [software] if version == "5.0" else software,
        "version": [{"value": model["version"]}],
        "note": [{"text": RESEARCH}],
    }


def _observation(code: Json, device: Json, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "meta": _META,
        "status": "preliminary",  # "may be incomplete or unverified"
        "category": _PROCEDURE,
        "code": code,
        **more,
        "device": device,
    }


def _statement(statement: Json, device: Json) -> Json:
    code = _statement_code(statement["code"], statement["description"])
    return _observation(code, device, **_finding(statement["present"], statement))


@lru_cache(maxsize=256)
def _statement_code(code: str, description: str) -> Json:
    """By SNOMED CT where it has the same meaning, and always by the SCP-ECG statement."""
    codings = [{"system": f"{OWN}:scp-statement", "code": code, "display": description}]
    if code in SNOMED_CODES:
        number, display = SNOMED_CODES[code]
        codings.insert(0, {"system": SNOMED, "code": number, "display": display})
    return {"coding": codings, "text": description}


def _atrial(result: Json, device: Json, version: Version) -> Json:
    atrial = result["atrial_substrate"]
    present = {"abnormal": True, "normal": False, "abstained": None}[atrial["status"]]
    finding = _finding(present, atrial)
    if present is not None:
        finding["valueCodeableConcept"] = coded(f"{OWN}:atrial-substrate", atrial["status"])
    segments = result["segments"]
    if len(segments) > 1:
        finding["component"].append(_by_segment(segments, version))
    return _observation(_ATRIAL, device, note=[{"text": _PROXY}], **finding)


def _finding(present: bool | None, said: Json) -> Json:
    """Whether it is there, and the probability and the threshold that say so."""
    probability = _component("probability", said["probability"])
    threshold = _component("threshold", said["threshold"])
    if present is None:
        return {"dataAbsentReason": _NOT_PERFORMED, "component": [probability, threshold]}
    return {
        "valueCodeableConcept": _VALUES[present],
        "interpretation": _INTERPRETATIONS[present],
        "component": [probability, threshold],
    }


def _component(name: str, value: float | None, unit: str = "1") -> Json:
    code = _OWN_CODES[name]
    if value is None:
        return {"code": code, "dataAbsentReason": _NOT_PERFORMED}
    return {"code": code, "valueQuantity": {"value": value, "system": _UCUM, "code": unit}}


_OWN_CODES = {
    name: coded(f"{OWN}:measure", name, text=text)
    for name, text in {
        "probability": "Probability, from 0 to 1",
        "threshold": "Threshold, at which the finding is stated as present",
        "segment-probability": "Probability in each segment of the record, from 0 to 1",
        "signal-quality": "Signal quality",
        "leads": "Leads",
        "ignored-channels": "Channels that are none of the twelve leads",
        "sampling-frequency": "Sampling frequency",
        "duration": "Duration",
    }.items()
}


def _by_segment(segments: list[Json], version: Version) -> Json:
    """Segments begin at even intervals."""
    ms = round(1000 * (segments[1]["start_s"] - segments[0]["start_s"]), 3)
    shown = ("E" if s["probability"] is None else str(s["probability"]) for s in segments)
    return {
        "code": _OWN_CODES["segment-probability"],
        "valueSampledData": {
            "origin": {"value": 0, "system": _UCUM, "code": "1"},
            **({"interval": ms, "intervalUnit": "ms"} if version == "5.0" else {"period": ms}),
            "dimensions": 1,
            "data": " ".join(shown),
        },
    }


def _quality(result: Json, device: Json) -> Json:
    """The quality gate's verdict, and what was judged."""
    quality, others = result["quality"], result["ignored_channels"]
    notes = [
        {"text": f"{r['code']} ({', '.join(r['leads'])}): {r['detail']}"}
        for r in quality["reasons"]
    ]
    components: list[Json] = [
        {"code": _OWN_CODES["leads"], "valueString": ", ".join(result["leads"])},
        _component("sampling-frequency", result["fs"], "Hz"),
        _component("duration", result["duration_s"], "s"),
    ]
    if others:
        said = {"code": _OWN_CODES["ignored-channels"], "valueString": ", ".join(others)}
        components.append(said)
    return _observation(
        _OWN_CODES["signal-quality"],
        device,
        valueCodeableConcept=coded(f"{OWN}:signal-quality", quality["status"]),
        **({"note": notes} if notes else {}),
        component=components,
    )


def _risk(result: Json, device: Json, basis: Json, now: str) -> Json:
    """The probability as a fraction of 1, as HL7's own examples of RiskAssessment have it."""
    atrial = result["atrial_substrate"]
    prediction: Json = {"outcome": {"text": "Abnormal atrial substrate. " + _PROXY}}
    if atrial["probability"] is None:
        prediction["rationale"] = "Abstained: the signal quality allows no answer."
    else:
        prediction["probabilityDecimal"] = atrial["probability"]
        prediction["rationale"] = (
            f"Calibrated probability {atrial['probability']:g} of 1; abnormal from "
            f"{atrial['threshold']:g} on."
        )
    return {
        "resourceType": "RiskAssessment",
        "meta": _META,
        "status": "preliminary",
        "subject": _NOT_IDENTIFIED,
        "occurrenceDateTime": now,
        "performer": device,
        "basis": [basis],
        "prediction": [prediction],
        "note": [{"text": RESEARCH}],
    }


def _conclusion(result: Json) -> str:
    """In words, for who reads no codes."""
    atrial = result["atrial_substrate"]
    if atrial["status"] == "abstained":
        reasons = ", ".join(r["detail"] for r in result["quality"]["reasons"])
        said = f"Abstained: the signal quality allows no answer ({reasons})."
    else:
        present = [s["description"] for s in result["statements"] if s["present"]]
        said = (
            f"Atrial substrate {atrial['status']} (probability {atrial['probability']:g}, "
            f"threshold {atrial['threshold']:g}). Present: {', '.join(present) or 'nothing'}. "
            f"Signal quality {result['quality']['status']}."
        )
    return f"{RESEARCH} {said} Made by software and verified by nobody. {_PROXY}"
