"""What the OpenAPI page says beyond the types: the bodies, which are recognised by content."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from service.schemas import ProblemAnswer, SynthesizeAnswer
from service.synthesize import FORMATS

DESCRIPTION = (
    "Posts electrocardiograms, gets the atrial-substrate status and SCP statements. "
    "**For research; not for the care of patients.** A body is recognised by its content: JSON, "
    "NPZ, CSV, DICOM, EDF, a WFDB zip, or a multipart upload of files in the field `file`."
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


CLASSIFY_BODY = explained(
    "1 adds to each result which windows of which leads moved the atrial probability, in the "
    "segment that decides the record. Some 400 model runs a record: few records a request "
    "(`ECG_MAX_EXPLAINED`), more is 422."
)
PRINT_BODY = explained(
    "1 shades the print by what moved the atrial probability, in the segment that decides the "
    "record, where the print then begins; with `start_s`, in the one that decides of those shown."
)

_PROBLEMS = {
    400: "The body could not be read",
    406: "No such answer",
    413: "The body is too large",
    415: "The body is in no known format",
    422: "Read, but not something that can be answered",
    429: "Overloaded; see Retry-After",
    500: "Internal error",
    503: "No answer in time; see Retry-After",
}


def responses(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """200 with `model`, and the problems."""
    return {200: {"model": model}, **_problem_responses()}


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
