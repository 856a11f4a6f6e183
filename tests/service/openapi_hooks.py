"""What schemathesis cannot know: bodies that hold an ECG, and what `Accept` may say.

Loaded by schemathesis itself (`SCHEMATHESIS_HOOKS`), in the process that `openapi_cases` starts.
"""

from __future__ import annotations

import atexit
import collections
import json
import os
import random
import uuid
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, GenerationMode, HookContext, Response

from ecg.formats import WRITERS
from service import examples
from service.rating import openapi as rating
from tests.ecg.formats.fuzz import mutated

FILES = {
    "application/x-npz": WRITERS["npz"].write([examples.EXCERPT]),
    "application/x-hdf5": WRITERS["hdf5"].write([examples.EXCERPT]),
    "text/csv": WRITERS["csv"].write(examples.EXCERPT),
    "application/zip": WRITERS["wfdb"].write(examples.EXCERPT),
    "application/dicom": WRITERS["dicom"].write(examples.EXCERPT),
    "application/edf": WRITERS["edf"].write(examples.EXCERPT),
    "application/octet-stream": WRITERS["edf"].write(examples.EXCERPT),
}
ODD = (
    *("*/*", "application/*;q=0.1, image/*", "text/html", "application/json, */*;q=0.1", ";q=,,"),
    *("application/fhir+json;fhirVersion=5.0", "application/fhir+json;fhirVersion=9", "*/*;q=a"),
)
SHARE = 0.3  # of the cases that get a good body, or an odd `Accept`
GOOD = ("/classify", "/print", "/strip", "/rate/answer")  # whose bodies a good one may replace
PRESENTATIONS = os.environ.get("ECG_CASE_PRESENTATIONS", "").split()
MARK = "X-Case"  # of a request whose body is good
COUNTS: collections.Counter[str] = collections.Counter()


def damaged(media_type: str) -> st.SearchStrategy[bytes]:
    """Files of the type: mostly damaged, so that readers have something to do."""
    good = FILES[media_type]
    seeds = st.integers(0, 2**32)
    return st.one_of(st.just(good), seeds.map(lambda seed: mutated(good, random.Random(seed))))


for name in FILES:
    schemathesis.openapi.media_type(name, damaged(name))


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """An answer may hold nothing that the page does not tell."""
    for schema in raw_schema["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """An `Accept`, which schemathesis would leave at one of all that the page names, and a good
    body for some; the same again for the same case."""
    if case.method != "POST" or case.operation.method.upper() != "POST":
        return
    rng = random.Random(repr((case.path, case.query, case.media_type, case.body)))
    documented = sorted(case.operation.definition.raw["responses"]["200"]["content"])
    case.headers["Accept"] = rng.choice(ODD if rng.random() < SHARE else documented)
    positive = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if not positive or rng.random() >= SHARE or case.path not in GOOD:
        return
    if case.path == "/rate/answer":
        case.body = {**rating.GIVEN, "id": str(uuid.UUID(int=rng.getrandbits(128)))}
        case.body |= {"presentation": rng.choice(PRESENTATIONS), "answer": rating.SINGLE}
        case.headers[MARK] = "good"
        return
    if case.media_type == "application/json":
        record = {**examples.RECORD, "record_id": rng.choice((None, "", "\u0000", "7"))}
        case.body = rng.choice((record, {"records": [record] * rng.randint(1, 3)}))
    elif case.media_type == "application/fhir+json":
        case.body = examples.OBSERVATION
    else:
        return
    case.query = {"explain": rng.choice("0001")} if case.path != "/strip" else {}
    case.headers[MARK] = "good"


@schemathesis.check
def a_good_body_is_answered(context: CheckContext, response: Response, case: Case) -> None:
    """Where an answer of the asked kind exists."""
    mode = case.meta.generation.mode.value if case.meta else "example"
    COUNTS[f"{case.method} {case.path} {mode} {response.status_code}"] += 1
    if case.headers.get(MARK):
        assert response.status_code in (200, 406, 429, 503), response.status_code


def _write_counts() -> None:
    if file := os.environ.get("ECG_CASE_COUNTS"):
        Path(file).write_text(json.dumps(dict(sorted(COUNTS.items())), indent=1))


atexit.register(_write_counts)
