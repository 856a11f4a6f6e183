"""The OpenAPI page is true: what it says of requests and answers is so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import problems, schemas
from service.access.scopes import EVERYONE, RATER, scope_of
from service.edge import FRAMEWORK_PATHS
from tests.service import openapi_cases


@pytest.fixture(scope="module")
def client(fake_generator_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake_generator_url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def page(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(page: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in page["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_is_on_the_page(page: dict[str, Any]) -> None:
    posted = {path for path, method, _ in operations(page) if method == "post"}
    rated = {"/rate/answer", "/rate/undo"}
    owned = {f"/studies/{verb}" for verb in ("create", "invite", "revoke", "close")}
    assert posted == {"/classify", "/print", "/strip", "/synthesize"} | rated | owned
    got = {path for path, method, _ in operations(page) if method == "get"}
    assert got == {
        *("/", "/docs", "/models", *FRAMEWORK_PATHS),
        *("/rate", "/rate/progress", "/rate/ecg"),
        *("/studies", "/studies/list", "/studies/report", "/studies/export"),
    }


def test_the_page_says_who_may_ask_what(page: dict[str, Any]) -> None:
    """As the door's own table has it; where a key is asked for, none does where none are."""
    for path, method, operation in operations(page):
        scope = scope_of(path)
        told = operation["security"]
        if scope == RATER:
            assert told == [{"rater": []}], (path, method)
        elif scope in (None, EVERYONE):
            assert told == [{}], (path, method)
        else:
            assert told == [{"key": [scope]}, {"session": [scope]}, {}], (path, method)
        for one in told:
            assert set(one) <= set(page["components"]["securitySchemes"])


def test_every_example_of_a_body_is_answered(client: httpx.Client, page: dict[str, Any]) -> None:
    """But for the rating's, which are of one study: see rating/test_openapi."""
    n = 0
    for path, method, operation in operations(page):
        if path.startswith(("/rate/", "/studies/")):
            continue
        bodies = operation.get("requestBody", {}).get("content", {})
        for media_type, described in bodies.items():
            for example in described.get("examples", {}).values():
                content = json.dumps(example["value"]).encode()
                headers = {"Content-Type": media_type}
                answer = client.request(method, path, content=content, headers=headers)
                assert answer.status_code == 200, (path, media_type, answer.text)
                assert "abstained" not in answer.text
                n += 1
    assert n == 7


def test_every_problem_is_described_as_it_is_sent(page: dict[str, Any]) -> None:
    """By an example of its own status, in the one media type that problems have."""
    for path, method, operation in operations(page):
        for status, answer in operation["responses"].items():
            if status == "200":
                continue
            assert list(answer["content"]) == [problems.MEDIA_TYPE], (path, method, status)
            examples = answer["content"][problems.MEDIA_TYPE]["examples"]
            assert examples
            for example in examples.values():
                shown = schemas.ProblemAnswer.model_validate(example["value"])
                assert str(shown.status) == status


def test_every_reference_on_the_page_leads_somewhere(page: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(named := node.get("$ref"), str):
                yield named
            for one in node.values():
                yield from references(one)
        elif isinstance(node, list):
            for one in node:
                yield from references(one)

    known = {f"#/components/schemas/{name}" for name in page["components"]["schemas"]}
    assert set(references(page)) <= known
    assert "#/components/schemas/ProblemAnswer" in set(references(page))


def test_drawn_requests_are_answered_as_the_page_says(fake_generator_url: str) -> None:
    counts, wrong = openapi_cases.run(fake_generator_url, a_route=55, seed=1, short=True)
    assert not wrong, wrong
    assert sum(counts.values()) >= 200
    for path in ("/classify", "/print", "/strip", "/synthesize", "/rate/answer"):
        assert counts.get(f"POST {path} positive 200"), "some must get through"
        assert any(name.startswith(f"POST {path} negative 4") for name in counts)


def test_a_page_that_is_not_true_is_found(
    fake_generator_url: str, page: dict[str, Any], tmp_path: Path
) -> None:
    """A field that it does not tell, and a status."""
    del page["components"]["schemas"]["RecordAnswer"]["properties"]["quality"]
    page["components"]["schemas"]["RecordAnswer"]["required"].remove("quality")
    del page["paths"]["/strip"]["post"]["responses"]["422"]
    altered = tmp_path / "openapi.json"
    altered.write_text(json.dumps(page))
    _, wrong = openapi_cases.run(fake_generator_url, 40, seed=1, short=True, page=altered)
    assert "Response violates schema" in wrong and "Undocumented status code" in wrong


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_requests_are_answered_as_the_page_says(server_url: str) -> None:
    counts, wrong = openapi_cases.run(server_url, a_route=3000, seed=2)
    assert not wrong
    assert sum(counts.values()) >= 10_000
