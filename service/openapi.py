"""What the OpenAPI page says beyond the types: the bodies, which are recognised by content, the
problems, and the routes that are not FastAPI's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from ecg.leads import LEADS
from ecg.limits import LIMITS
from service import examples
from service.access.scopes import EVERYONE, RATER, scope_of
from service.problems import MEDIA_TYPE
from service.schemas import ClassifyAnswer, ModelsAnswer, ProblemAnswer, SynthesizeAnswer
from service.synthesize import FORMATS, SynthesizeRequest

DESCRIPTION = (
    "Posts electrocardiograms, gets the atrial-substrate status and SCP statements. "
    "**For research; not for the care of patients.** A body is recognised by its content: JSON, "
    "NPZ, HDF5, CSV, DICOM, EDF, HL7 aECG, GE MUSE and Philips XML, SCP-ECG, ISHNE, FHIR, WFDB (a "
    "zip), or a multipart upload of files in the field `file`."
)

_ELSEWHERE = "; may be in the query instead"
_RECORD: dict[str, Any] = {
    "type": "object",
    "required": ["sig"],
    "properties": {
        "sig": {
            "type": "array",
            "description": "[lead][time], at least 5 s; null is a missing sample",
            "minItems": 1,
            "maxItems": len(LEADS),
            "items": {"type": "array", "items": {"type": ["number", "null"]}},
        },
        "fs": {
            "type": "number",
            "minimum": LIMITS.min_fs,
            "maximum": LIMITS.max_fs,
            "description": f"Hz{_ELSEWHERE}",
        },
        "leads": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": len(LEADS),
            "description": f"each once, of {', '.join(LEADS)}, in any order and case{_ELSEWHERE}",
        },
        "units": {
            "type": "string",
            "enum": ["mV", "uV"],
            "description": f"in any case{_ELSEWHERE}",
        },
        "record_id": {"type": ["string", "null"], "maxLength": 256},
        "synthetic": {
            "type": ["boolean", "null"],
            "description": "made by a model; its print says so",
        },
    },
}
_RECORDS: dict[str, Any] = {
    "type": "object",
    "required": ["records"],
    "properties": {
        "records": {
            "type": "array",
            "items": _RECORD,
            "minItems": 1,
            "maxItems": LIMITS.max_records,
        }
    },
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

_FHIR: dict[str, Any] = {
    "type": "object",
    "required": ["resourceType"],
    "properties": {"resourceType": {"type": "string", "enum": ["Observation", "Bundle"]}},
    "description": "R4, R4B or R5: an Observation with SampledData a lead, or a Bundle of such",
}

# The usual types; another, or none, does as well, since the content decides.
_FILES = (
    "application/x-npz",
    "application/x-hdf5",
    "text/csv",
    "application/zip",
    "application/dicom",
    "application/edf",
    "application/xml",
    "application/octet-stream",
)

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
            "application/json": {
                "schema": {"anyOf": [_RECORD, _RECORDS, _FHIR]},
                "examples": {"a record": {"value": examples.RECORD}},
            },
            "application/fhir+json": {
                "schema": _FHIR,
                "examples": {"an Observation": {"value": examples.OBSERVATION}},
            },
            **dict.fromkeys(_FILES, _BINARY),
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


def of_models(described: dict[str, Any], names: Sequence[str], what: str) -> dict[str, Any]:
    """`described` with the parameter `model`: which of the served `names` does `what`."""
    parameter = {
        "name": "model",
        "in": "query",
        "required": False,
        "description": f"which of the served models {what}: its `served_as` of `/models`",
        "schema": {"type": "string", "enum": list(names), "default": names[0]},
    }
    return {**described, "parameters": [*described.get("parameters", ()), parameter]}


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
    401: "A valid key is needed, where keys are asked for",
    403: "The key may not do this",
    404: "There is no such thing",
    406: "No such answer",
    408: "The request's head did not come in time",
    409: "Not as things stand",
    413: "The body is too large",
    415: "The body is in no known format",
    422: "Read, but not something that can be answered",
    429: "Overloaded; see Retry-After",
    431: "The request's head is too large",
    500: "Internal error",
    503: "No answer in time, or none that can be recorded, see Retry-After; or no model for it",
}
_AT_THE_DOOR = (401, 403, 429, 503)
_OF_RECORDS = tuple(status for status in _PROBLEMS if status not in (404, 409))
_HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "description": "finds the request in the service's log",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
}
_RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {
        "description": "seconds",
        "schema": {"type": "integer", "minimum": 1},
    }
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {
            "description": _PROBLEMS[status],
            "headers": _HEADERS | (_RETRY_AFTER if status in (429, 503) else {}),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"},
                    "examples": examples.problems_of(status),
                }
            },
        }
        for status in statuses
    }


_SECURITY: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key, `ecg_…`, or a token of the OIDC issuer that this service "
        "trusts; asked for wherever the service can be reached from another machine",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-ecg-session",
        "description": "a browser's, which signed in at / with a key",
    },
    "rater": {
        "type": "http",
        "scheme": "bearer",
        "description": "what follows the # of a rater's personal link, `rater_…`; always asked for",
    },
}


def json_body(
    model: type[BaseModel], example: dict[str, Any], required: bool = False
) -> dict[str, Any]:
    """A JSON body of `model`, which the endpoint reads itself."""
    schema = model.model_json_schema()
    content = {"schema": schema, "examples": {"usual": {"value": example}}}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


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
_PICTURE = {"schema": {"type": "string"}}


def answers(
    description: str, statuses: Sequence[int] = _OF_RECORDS, **more: Any
) -> dict[int | str, dict[str, Any]]:
    """Of an endpoint, `more` of its 200; `statuses`: of its problems."""
    return {
        200: {"description": description, "headers": _HEADERS, **more},
        **problem_responses(*statuses),
    }


CLASSIFY_RESPONSES = answers(
    "An answer a record, in their order",
    model=ClassifyAnswer,
    content={"application/fhir+json": {"schema": _BUNDLE}},
)
SYNTHESIZE = json_body(SynthesizeRequest, examples.SYNTHESIZE)
SYNTHESIZE_RESPONSES = answers(
    "The ECGs, as `Accept` asks",
    model=SynthesizeAnswer,
    content={media_type: _BINARY for media_type in FORMATS},
)
PRINT_RESPONSES = answers("The print", content={"image/svg+xml": _PICTURE, "image/png": _BINARY})
STRIP_RESPONSES = answers("The overview", content={"image/svg+xml": _PICTURE})
MODELS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A card a model", "model": ModelsAnswer},
    **problem_responses(*_AT_THE_DOOR),
}


def _page(summary: str, media_type: str, open_to_all: bool = False) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "string"}}}
    responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
    if not open_to_all:
        responses |= {str(s): told for s, told in problem_responses(*_AT_THE_DOOR).items()}
    return {"get": {"summary": summary, "responses": responses}}


_PAGES = {
    "/": _page("The web page", "text/html"),
    "/rate": _page("The page of a rater's personal link", "text/html", open_to_all=True),
    "/studies": _page("The page of a study's owner", "text/html"),
    "/docs": _page("This page", "text/html"),
    "/livez": _page("The process runs", "text/plain", open_to_all=True),
    "/healthz": _page("As /livez", "text/plain", open_to_all=True),
    "/readyz": _page("The models are loaded", "text/plain", open_to_all=True),
    "/metrics": _page("Metrics in Prometheus's text format", "text/plain"),
}


def _who_may(path: str) -> list[dict[str, list[str]]]:
    """The scope that a key, token or session needs there; no credential where keys are not asked
    for, or where nobody is."""
    scope = scope_of(path)
    if scope == RATER:
        return [{"rater": []}]
    if scope in (None, EVERYONE):
        return [{}]
    return [{"key": [scope]}, {"session": [scope]}, {}]


def complete(app: FastAPI) -> None:
    """Let the app's document have the routes that are not FastAPI's, who may ask each of them, and
    the problems' schema: FastAPI would give each problem the endpoint's own media type, too."""
    document_of = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = document_of()
            document["paths"] |= _PAGES
            document["components"]["securitySchemes"] = _SECURITY
            for path, methods in document["paths"].items():
                for operation in methods.values():
                    operation["security"] = _who_may(path)
            document["components"]["schemas"][ProblemAnswer.__name__] = (
                ProblemAnswer.model_json_schema()
            )
        return document_of()  # made once

    app.openapi = openapi
