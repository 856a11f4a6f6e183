"""The rating's endpoints on the OpenAPI page: of each its body, its answer and its problems."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from service import examples, openapi, problems
from service.rating import schemas
from service.rating.answers import Given, Pair, Single
from service.rating.plan import Plan

_STUDY, _RATER, _PRESENTATION = "0" * 12, "1" * 12, "2" * 32
_MARK = {"kind": "p_wave", "lead": "II", "time_s": 2.41}
SINGLE: dict[str, Any] = {
    "source": "generated",
    "confidence": 2,
    "label": "no",
    "plausibility": 3,
    "defects": [_MARK],
    "comment": "P waves in atrial fibrillation",
    "seconds": 21.5,
}
PAIR: dict[str, Any] = {"better": "first", "confidence": 3}
GIVEN: dict[str, Any] = {
    "id": "7f0c1c1e-6a34-4a1b-9a52-2f6a4f6f3c55",
    "presentation": _PRESENTATION,
    "based_on": 0,
}
PLAN: dict[str, Any] = {
    "name": "Pilot",
    "mode": "single",
    "labels": {"AFIB": 2, "NORM": 1},
    "generated": {"ldm": 6},
    "seed": 7,
}
# a single ECG's answer, and a pair's: which of them is asked for, the study's mode says
ANSWERS = {
    "of one ECG": {**GIVEN, "answer": SINGLE},
    "of a pair": {**GIVEN, "answer": PAIR},
}

Answers = dict[int | str, dict[str, Any]]
_DOOR = (400, 401, 403, 408, 429, 431, 500, 503)
_BODY = (413, 415, 422)


def _route(summary: str, responses: Answers, **extra: Any) -> dict[str, Any]:
    """What FastAPI is told of a route."""
    return {
        "summary": summary,
        "response_model": None,
        "responses": responses,
        "openapi_extra": extra,
    }


def _answer(description: str, model: type[BaseModel], *statuses: int) -> Answers:
    return openapi.answers(description, sorted((*_DOOR, *statuses)), model=model)


def _to_rater(description: str, model: type[BaseModel], *statuses: int) -> Answers:
    """The same, with the problem that only a rater's link has."""
    found = _answer(description, model, *statuses)
    link = problems.no_rater("the personal link is incomplete, or its owner ended it")
    found[401]["content"][problems.MEDIA_TYPE]["examples"]["not a link"] = examples.as_sent(link)
    return found


def _parameter(name: str, description: str, required: bool, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema,
    }


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """Its schema without references, which would not lead anywhere on the page."""
    schema = model.model_json_schema()
    known = schema.pop("$defs", {})

    def follow(node: Any) -> Any:
        if isinstance(node, list):
            return [follow(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return follow(known[node["$ref"].rpartition("/")[2]])
        return {name: follow(one) for name, one in node.items()}

    return follow(schema)


def _given() -> dict[str, Any]:
    """The body of an answer, of either mode."""
    schema = _inlined(Given)
    schema["properties"]["answer"] = {"anyOf": [_inlined(Single), _inlined(Pair)]}
    schema["required"].append("answer")
    shown = {name: {"value": value} for name, value in ANSWERS.items()}
    content = {"schema": schema, "examples": shown}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _undone() -> dict[str, Any]:
    body = openapi.json_body(Given, GIVEN, required=True)
    del body["requestBody"]["content"]["application/json"]["schema"]["properties"]["answer"]
    return body


def _plan() -> dict[str, Any]:
    """JSON; or parts, of which one is the plan and one may be a real set."""
    body = openapi.json_body(Plan, PLAN, required=True)
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": 2}
    body["requestBody"]["content"]["multipart/form-data"] = {
        "schema": {
            "type": "object",
            "required": ["file"],
            "description": "the plan in JSON, and the NPZ of python -m training.real_set",
            "properties": {"file": files},
        }
    }
    return body


_OF_STUDY = _parameter("study", "the id of a closed study", True, **{"type": "string"})
PROGRESS = _route(
    "How far a rater is",
    _to_rater("The study as its rater may know it", schemas.ProgressAnswer),
)
ECG = _route(
    "What a rater is shown at a position",
    _to_rater("The print, and what the rater said of it", schemas.ShownAnswer, 404, 409, 422),
    parameters=[
        _parameter("position", "counted from 0", True, type="integer", minimum=0, maximum=999_999)
    ],
)
ANSWER = _route(
    "Keep a rater's answer: once, however often it is sent",
    _to_rater("It is durable", schemas.KeptAnswer, 404, 409, *_BODY),
    **_given(),
)
UNDO = _route(
    "Undo the answer that stands",
    _to_rater("It is durable", schemas.KeptAnswer, 404, 409, *_BODY),
    **_undone(),
)
LIST = _route(
    "All studies, their raters and how far these are",
    _answer("Nothing of what their ECGs are", schemas.ListAnswer),
)
CREATE = _route(
    "Make a study; its generated ECGs are made now",
    _answer("The study's id", schemas.CreatedAnswer, *_BODY),
    **_plan(),
)
INVITE = _route(
    "A rater's personal link",
    _answer("The token, told once", schemas.InvitedAnswer, 404, *_BODY),
    **openapi.json_body(
        schemas.Invited, {"study": _STUDY, "name": "Reader A", "simulated": False}, required=True
    ),
)
REVOKE = _route(
    "End a rater's link; what they said stays",
    _answer("Whether there was one", schemas.RevokedAnswer, *_BODY),
    **openapi.json_body(schemas.OfRater, {"rater": _RATER}, required=True),
)
CLOSE = _route(
    "Take no more answers; from here on the truth may be told",
    _answer("The study's id", schemas.ClosedAnswer, 404, *_BODY),
    **openapi.json_body(schemas.OfStudy, {"study": _STUDY}, required=True),
)
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
REPORT = _route(
    "What a closed study found",
    openapi.answers(
        "As a page, as JSON or as CSV",
        sorted((*_DOOR, 404, 409, 422)),
        content={
            "text/html": _TEXT,
            "application/json": {"schema": {"type": "object"}},
            "text/csv": _TEXT,
        },
    ),
    parameters=[
        _OF_STUDY,
        _parameter(
            "format", "of the report", False, type="string",
            enum=["html", "json", "csv"], default="html",
        ),
    ],
)  # fmt: skip
EXPORT = _route(
    "All of a closed study: what python -m service.studies export writes, as a zip",
    openapi.answers(
        "NPZ and CSV",
        sorted((*_DOOR, 404, 409)),
        content={"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    ),
    parameters=[_OF_STUDY],
)
