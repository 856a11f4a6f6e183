"""Requests drawn at random: what fits is taken as it is meant, and what does not is refused with a
problem document that names the place and not the value."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from starlette.requests import Request

from ecg.errors import EcgError
from ecg.formats import File, Hints, read
from ecg.labels import MAX_AGE, MAX_HEART_RATE, MIN_HEART_RATE, encode, features
from ecg.leads import LEADS
from ecg.limits import LIMITS
from ecg.statements import ATRIAL_STATEMENTS
from service import explaining, fhir, problems
from service.problems import Problem
from service.schemas import ProblemAnswer
from service.settings import Settings
from service.synthesize import MAX_SEED, SynthesizeRequest, order, read_request
from tests.ecg import fake_generator

CARD = fake_generator.card()
WORDS = st.text(min_size=6, max_size=20)


def problem_of(error: EcgError | Problem) -> ProblemAnswer:
    """The document that is sent, valid as the page describes it."""
    problem = error if isinstance(error, Problem) else problems.of_error(error)
    response = problem.response("0" * 32)
    assert response.media_type == problems.MEDIA_TYPE
    return ProblemAnswer.model_validate_json(bytes(response.body))


# POST /synthesize

GOOD: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(1, 64),
    "atrial_substrate": st.sampled_from((None, "normal", "abnormal")),
    "statements": st.lists(st.sampled_from(fake_generator.STATEMENTS), max_size=8),
    "age": st.none() | st.integers(0, 120) | st.floats(0, MAX_AGE),
    "sex": st.sampled_from((None, "male", "female")),
    "heart_rate": st.none() | st.floats(MIN_HEART_RATE, MAX_HEART_RATE),
    "complete": st.booleans(),
    "seed": st.none() | st.integers(0, MAX_SEED - 1),
    "guidance_scale": st.none() | st.floats(1, 10),
    "num_steps": st.none() | st.integers(1, 64),
}
BAD: dict[str, st.SearchStrategy[Any]] = {
    "n": st.sampled_from((0, 65, -1, 1.5, "1", None, True, 2**63, [1])),
    "atrial_substrate": st.sampled_from(("Normal", "", 0, False, ["normal"])) | WORDS,
    "statements": st.sampled_from((["AFIB", 7], "AFIB", None, {"AFIB": True}, ["SR"] * 72)),
    "age": st.sampled_from((-0.1, 120.1, "63", True, [63], 1e300)),
    "sex": st.sampled_from(("f", "Female", 1, "")) | WORDS,
    "heart_rate": st.sampled_from((19.9, 250.1, "80", 0, False)),
    "complete": st.sampled_from((0, 1, "true", None)),
    "seed": st.sampled_from((-1, MAX_SEED, 0.5, "7", True)),
    "guidance_scale": st.sampled_from((0.99, 10.01, "2", True)),
    "num_steps": st.sampled_from((0, 65, 1.5, "8")),
}


def test_every_field_of_a_request_is_drawn() -> None:
    assert set(GOOD) == set(BAD) == set(SynthesizeRequest.model_fields)


@given(st.fixed_dictionaries({}, optional=GOOD))
def test_a_good_order_means_what_it_says(asked: dict[str, Any]) -> None:
    """From the body to the vector that the network gets."""
    request = read_request(orjson.dumps(asked))
    given_statements = set(asked.get("statements", ()))
    implied = bool(given_statements & set(ATRIAL_STATEMENTS))
    contradicts = implied and asked.get("atrial_substrate") == "normal"
    says_nothing = asked.get("complete", False) and not given_statements
    if contradicts or says_nothing:
        with pytest.raises(EcgError) as refusal:
            order(request, CARD)
        assert refusal.value.where in ("atrial_substrate", "complete")
        assert problem_of(refusal.value).status == 422
        return
    labels, placed = order(request, CARD)
    assert labels.atrial_substrate == ("abnormal" if implied else asked.get("atrial_substrate"))
    assert set(labels.statements) == given_statements
    assert (labels.age, labels.sex, labels.heart_rate) == tuple(
        asked.get(name) for name in ("age", "sex", "heart_rate")
    )
    assert placed.n == asked.get("n", 1)
    assert 0 <= placed.seed < MAX_SEED and asked.get("seed") in (None, placed.seed)
    np.testing.assert_array_equal(placed.labels, encode(labels, CARD.statements))
    said = dict(zip(features(CARD.statements), placed.labels.tolist(), strict=True))
    assert not (said["normal"] and any(said[code] for code in given_statements & {"AFIB"}))
    d = CARD.diffusion
    assert placed.guidance_scale == (asked.get("guidance_scale") or d.guidance_scale)
    assert placed.num_steps == (asked.get("num_steps") or d.num_steps)


@given(st.data())
def test_an_order_with_a_field_that_does_not_fit_is_refused_and_the_field_named(
    data: st.DataObject,
) -> None:
    asked = data.draw(st.fixed_dictionaries({}, optional=GOOD))
    name = data.draw(st.sampled_from(sorted(BAD)))
    asked[name] = data.draw(BAD[name])
    assume(asked[name] not in ("normal", "abnormal", "male", "female"))
    with pytest.raises(EcgError) as refusal:
        read_request(orjson.dumps(asked, option=orjson.OPT_PASSTHROUGH_DATETIME))
    assert refusal.value.where.split(".")[0] == name
    answer = problem_of(refusal.value)
    assert answer.status == 422 and answer.detail.startswith(name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_other_json_is_refused_unless_it_asks_for_nothing(value: Any) -> None:
    try:
        request = read_request(json.dumps(value).encode())
    except EcgError as error:
        assert problem_of(error).status in (400, 422)
    else:
        assert value == {} and request == SynthesizeRequest()


@given(st.binary(max_size=200))
def test_bytes_are_an_order_only_where_they_are_json(content: bytes) -> None:
    try:
        read_request(content)
    except EcgError as error:
        assert problem_of(error).status in (400, 422)
    else:
        assert not content.strip() or isinstance(json.loads(content), dict)


# What the query of /classify asks for

FORMS = st.sampled_from(("json", "fhir"))
VERSIONS = {"R4": "4.0", "r4b": "4.3", "R5": "5.0", "4.0.1": "4.0", "4.3": "4.3", "5.0": "5.0"}
ACCEPTED = (
    *("*/*", "application/json", "application/*", "text/html", "", ",", ";;q"),
    *("application/fhir+json", "application/fhir+json; fhirVersion=5.0", 'a/b;q="x'),
    *("application/fhir+json;fhirVersion=9", "text/html, application/fhir+json;fhirVersion=4.3"),
)


def asking(query: dict[str, str], accept: str | None = None) -> Request:
    from urllib.parse import urlencode

    headers = [] if accept is None else [(b"accept", accept.encode("latin-1", "replace"))]
    scope = {"type": "http", "query_string": urlencode(query).encode(), "headers": headers}
    return Request(scope)


@given(
    st.fixed_dictionaries(
        {}, optional={"format": FORMS | WORDS, "fhir": st.sampled_from(sorted(VERSIONS)) | WORDS}
    ),
    st.none() | st.sampled_from(ACCEPTED) | st.text(max_size=30),
)
def test_a_version_of_fhir_is_found_or_refused(query: dict[str, str], accept: str | None) -> None:
    try:
        version = fhir.asked(asking(query, accept))
    except (EcgError, Problem) as error:
        answer = problem_of(error)
        assert answer.status in (406, 422)
        fits = query.get("format") in (None, "json", "fhir") and query.get("fhir") in (
            None,
            *VERSIONS,
        )
        assert fits == (answer.status == 406)
        odd = [word for word in query.values() if word not in (*VERSIONS, "json", "fhir")]
        assert not any(word in answer.detail for word in odd)
        return
    assert version in (None, "4.0", "4.3", "5.0")
    if query.get("format") == "json":
        assert version is None
    elif "fhir" in query:
        assert version == VERSIONS[query["fhir"]]
    elif query.get("format") == "fhir":
        assert version is not None
    elif accept is None or accept in ("*/*", "application/json", "application/*"):
        assert version is None


@given(st.none() | st.sampled_from(("0", "1", "true", "false")) | st.text())
def test_an_explanation_is_asked_for_or_not_or_refused(flag: str | None) -> None:
    try:
        asked = explaining.asked(flag)
    except EcgError as error:
        assert flag not in (None, "0", "1", "true", "false")
        assert problem_of(error).detail == "explain: must be 1 or 0"
    else:
        assert asked == (flag in ("1", "true"))


# JSON records, as the page describes them

LONG = st.sampled_from((500, 501, 1000))
VALUES = st.none() | st.integers(-5000, 5000) | st.floats(-10, 10)


@st.composite
def json_records(draw: st.DrawFn) -> dict[str, Any]:
    """One that fits, with samples of few different values: there are many."""
    leads = draw(st.lists(st.sampled_from(LEADS), min_size=1, max_size=4, unique=True))
    spelled = [draw(st.sampled_from((str, str.upper, str.lower)))(lead) for lead in leads]
    few = draw(st.lists(VALUES, min_size=1, max_size=7))
    assume(any(value is not None for value in few))
    n_samples = draw(LONG)
    row = (few * (n_samples // len(few) + 1))[:n_samples]
    record = {
        "sig": [row] * len(leads),
        "fs": draw(st.integers(50, 100) | st.floats(LIMITS.min_fs, 100)),
        "leads": spelled,
        "units": draw(st.sampled_from(("mV", "uV", "MV", " uv "))),
    }
    optional = {"record_id": st.none() | st.text(max_size=256), "synthetic": st.booleans()}
    return record | draw(st.fixed_dictionaries({}, optional=optional))


@given(st.lists(json_records(), min_size=1, max_size=3), st.booleans())
def test_json_records_that_fit_are_read_as_they_are(
    bodies: list[dict[str, Any]], listed: bool
) -> None:
    body = {"records": bodies} if listed or len(bodies) > 1 else bodies[0]
    records = read([File(orjson.dumps(body))], Hints())
    for record, sent in zip(records, bodies, strict=True):
        assert record.fs == sent["fs"] and record.meta.record_id == sent.get("record_id")
        assert [lead.lower() for lead in record.leads] == [x.lower() for x in sent["leads"]]
        scale = 1000 if "u" in sent["units"].lower() else 1
        expected = np.array(sent["sig"], dtype=float) / scale
        np.testing.assert_allclose(record.sig, expected, rtol=1e-6, atol=1e-12)
        assert record.meta.synthetic == sent.get("synthetic", False)


WRONG: dict[str, tuple[Any, ...]] = {
    "sig": (
        [],
        [[]],
        None,
        "x",
        [[1.0] * 249],
        [[1.0] * 500, [1.0]],
        [["1"] * 500],
        [[True] * 500],
    ),
    "fs": (0, LIMITS.min_fs - 0.1, LIMITS.max_fs + 0.1, -100, 1e308, "100", True, None, [100], {}),
    "leads": ([], ["I", "I"], ["V7"], [None], [1], "I", {}, ["I"] * 13, None),
    "units": ("V", "", "m V", 1, None, True, ["mV"]),
    "record_id": (7, True, ["a"], {}, "x" * 257),
    "synthetic": (0, 1, "true", []),
}


@given(json_records(), st.data())
def test_a_json_record_with_a_field_that_does_not_fit_is_refused_and_the_field_named(
    body: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(WRONG)))
    wrong = data.draw(st.sampled_from(WRONG[name]))
    at = data.draw(st.integers(0, 2))
    several = [json.loads(json.dumps(body)) for _ in range(3)]
    several[at][name] = wrong
    with pytest.raises(EcgError) as refusal:
        read([File(json.dumps({"records": several}).encode())], Hints())
    answer = problem_of(refusal.value)
    assert answer.status == 422
    # what a `sig` is, is compared with the leads and fs beside it
    places = {"sig": ("sig", "leads"), "leads": ("leads", "sig")}.get(name, (name,))
    assert refusal.value.where.startswith(tuple(f"records[{at}].{place}" for place in places))


@given(st.integers(LIMITS.max_records + 1, 400))
def test_more_records_than_one_request_may_hold_are_refused(n: int) -> None:
    with pytest.raises(EcgError, match="at most 64"):
        read([File(orjson.dumps({"records": [{}] * n}))], Hints())


# Settings, which come from outside, too

NUMBERS = {
    name: field
    for name, field in Settings.model_fields.items()
    if field.annotation in (int, float) and name != "workers"
}


@given(st.sampled_from(sorted(NUMBERS)), st.sampled_from((-1, math.nan, "many", None, [])))
def test_a_limit_that_is_none_stops_the_start(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]
