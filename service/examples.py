"""Examples for the OpenAPI page: bodies that are answered, and each problem as it is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from ecg.errors import UnknownFormatError, UnreadableError, UnservableError
from ecg.formats import File, Hints, fhir, read
from ecg.record import Record
from service import problems
from service.problems import Problem

_ID = "0" * 32


def _excerpt() -> Record:
    """The shortest that is read, 5 s, of one of the page's examples: lead II, atrial fibrillation
    (PTB-XL, CC BY 4.0)."""
    content = (Path(__file__).parent / "pages" / "examples" / "afib-lead-ii.csv").read_bytes()
    (whole,) = read([File(content)], Hints("100", None, "mV"))
    return Record(whole.sig[:, :500], whole.fs, whole.leads)


EXCERPT = _excerpt()
RECORD: dict[str, Any] = {
    "sig": [[round(mv, 3) for mv in EXCERPT.sig[0].tolist()]],
    "fs": 100,
    "leads": ["II"],
    "units": "mV",
}
OBSERVATION: dict[str, Any] = orjson.loads(fhir.write(EXCERPT, "R4"))
SYNTHESIZE: dict[str, Any] = {
    "n": 1,
    "statements": ["AFIB"],
    "age": 63,
    "sex": "female",
    "heart_rate": 80,
    "seed": 7,
}
_PROBLEMS: dict[str, Problem] = {
    "unreadable": problems.of_error(UnreadableError("not valid JSON at line 1, column 9")),
    "no key": problems.unauthorized("send `Authorization: Bearer` with a key of this service"),
    "not of this key": problems.forbidden("synthesize"),
    "nothing shown there": problems.no_such_presentation(),
    "no study of this id": problems.no_such_study(),
    "not acceptable": problems.not_acceptable("image/svg+xml, image/png"),
    "head too slow": problems.head_too_slow(20),
    "head too large": problems.head_too_large(64 * 1024),
    "the study is closed": problems.study_closed(),
    "the study is open": problems.study_open(),
    "the id of another answer": problems.another_answer(),
    "malformed": problems.malformed(),
    "too large": problems.too_large(64 * 2**20),
    "unknown format": problems.of_error(
        UnknownFormatError("this is an empty body; send JSON, NPZ, CSV …")
    ),
    "unservable": problems.of_error(
        UnservableError("is missing: give the sampling frequency in Hz, for example 500", "fs")
    ),
    "overloaded": problems.overloaded(1),
    "too often": problems.too_often(20, "this is more than the key may ask at a time"),
    "internal": problems.internal(),
    "late": problems.late(30),
    "no generator": problems.no_generator(),
}


def problems_of(status: int) -> dict[str, Any]:
    """Examples by name, of an answer's `content`."""
    return {
        name: as_sent(problem) for name, problem in _PROBLEMS.items() if problem.status == status
    }


def as_sent(problem: Problem) -> dict[str, Any]:
    return {"value": orjson.loads(bytes(problem.response(_ID).body))}
