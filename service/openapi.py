"""What the OpenAPI page says beyond the types: the bodies, which are recognised by content."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from service.schemas import ClassifyAnswer, ProblemAnswer, SynthesizeAnswer
from service.synthesize import FORMATS

DESCRIPTION = (
    "Posts electrocardiograms, gets the atrial-substrate status and SCP statements. "
    "**For research; not for the care of patients.** A body is recognised by its content: JSON, "
    "NPZ, HDF5, CSV, DICOM, EDF, HL7 aECG, GE MUSE and Philips XML, SCP-ECG, ISHNE, FHIR, WFDB (a "
    "zip), or a multipart upload of files in the field `file`."
)

_RECORD: dict[str, Any] = {
    "type": "object",
    "required": ["sig", "fs", "leads", "units"],
    "properties": {
        "sig": {
            "type": "array",
            "description": "[lead][time]; null is a missing sample",
            "items": {"type": "array", "items": {"type": "number", "nullable": True}},
        },
        "fs": {"type": "number", "minimum": 50, "maximum": 4000, "description": "Hz"},
        "leads": {"type": "array", "items": {"type": "string"}, "example": ["I", "II", "V1"]},
        "units": {"type": "string", "enum": ["mV", "uV"]},
        "record_id": {"type": "string", "maxLength": 256},
        "synthetic": {"type": "boolean", "description": "made by a model; its print says so"},
    },
}
_RECORDS: dict[str, Any] = {
    "type": "object",
    "required": ["records"],
    "properties": {"records": {"type": "array", "items": _RECORD, "minItems": 1, "maxItems": 64}},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

_FHIR: dict[str, Any] = {
    "type": "object",
    "required": ["resourceType"],
    "properties": {"resourceType": {"type": "string", "enum": ["Observation", "Bundle"]}},
    "description": "R4, R4B or R5: an Observation with SampledData a lead, or a Bundle of such",
}

_HINTS = {
    "fs": ("Hz, for CSV and for NPZ without `fs`", "500"),
    "leads": ("comma-separated, for arrays without lead names", "I,II,V1"),
    "units": ("mV or uV, where the body does not say", "mV"),
}
BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": description,
            "schema": {"type": "string"},
            "example": example,
        }
        for name, (description, example) in _HINTS.items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_RECORD, _RECORDS]}},
            "application/fhir+json": {"schema": _FHIR},
            "application/x-npz": _BINARY,
            "text/csv": _BINARY,
            "application/zip": _BINARY,
            "application/dicom": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
        },
    },
}


def explained(what: str) -> dict[str, Any]:
    """BODY with the parameter `explain`, which gets `what`."""
    flag = {
        "name": "explain",
        "in": "query",
        "required": False,
        "description": what,
        "schema": {"type": "string", "enum": ["0", "1", "false", "true"], "default": "0"},
    }
    return {**BODY, "parameters": [*BODY["parameters"], flag]}


_CLASSIFY = explained(
    "1 adds to each result which windows of which leads moved the atrial probability, in the "
    "segment that decides the record. Some 400 model runs a record: few records a request "
    "(`ECG_MAX_EXPLAINED`), more is 422."
)
PRINT_BODY = explained(
    "1 shades the print by what moved the atrial probability, in the segment that decides the "
    "record, where the print then begins; with `start_s`, in the one that decides of those shown."
)
_FORMS: list[dict[str, Any]] = [
    {
        "name": "format",
        "in": "query",
        "required": False,
        "description": "of the answer; comes before `Accept`",
        "schema": {"type": "string", "enum": ["json", "fhir"]},
    },
    {
        "name": "fhir",
        "in": "query",
        "required": False,
        "description": "asks for FHIR of this version; R4 where only FHIR is asked for, as with "
        "`Accept: application/fhir+json`, whose `fhirVersion` may be 4.0, 4.3 or 5.0",
        "schema": {"type": "string", "enum": ["R4", "R4B", "R5"]},
    },
]
CLASSIFY: dict[str, Any] = {**_CLASSIFY, "parameters": [*_CLASSIFY["parameters"], *_FORMS]}

_PROBLEMS = {
    400: "The body could not be read",
    406: "No such answer",
    413: "The body is too large",
    415: "The body is in no known format",
    422: "Read, but not something that can be answered",
    429: "Overloaded; see Retry-After",
    500: "Internal error",
    503: "No answer in time, or none that can be recorded; see Retry-After",
}


def _problem_responses() -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}}
    return {
        status: {
            "description": description,
            "model": ProblemAnswer,
            "content": {"application/problem+json": schema},
        }
        for status, description in _PROBLEMS.items()
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON body of `model`, which the endpoint reads itself."""
    return {"requestBody": {"content": {"application/json": {"schema": model.model_json_schema()}}}}


_BUNDLE: dict[str, Any] = {
    "type": "object",
    "required": ["resourceType", "type", "entry"],
    "properties": {
        "resourceType": {"type": "string", "enum": ["Bundle"]},
        "type": {"type": "string", "enum": ["collection"]},
        "entry": {
            "type": "array",
            "description": "the model as Device; and for each record, in their order, a "
            "DiagnosticReport, an Observation of the signal quality, one of the atrial substrate "
            "and one of each statement, a RiskAssessment and a Provenance",
            "items": {"type": "object"},
        },
    },
}
CLASSIFY_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ClassifyAnswer, "content": {"application/fhir+json": {"schema": _BUNDLE}}},
    **_problem_responses(),
}

SYNTHESIZE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": SynthesizeAnswer,
        "content": {media_type: _BINARY for media_type in FORMATS},
    },
    **_problem_responses(),
}

PRINT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/svg+xml": {}, "image/png": {}}, "description": "The print"},
    **_problem_responses(),
}

STRIP_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/svg+xml": {}}, "description": "The overview"},
    **_problem_responses(),
}
