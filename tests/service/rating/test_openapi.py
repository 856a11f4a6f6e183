"""The rating on the OpenAPI page: every example is answered, and as the page says."""

from __future__ import annotations

import uuid
from typing import Any

import jsonschema
import pytest
import sqlalchemy as sa

from tests.service.rating.asking import Asking, door
from tests.service.rating.made import study


@pytest.fixture
def asking(url: str) -> Asking:
    return Asking(door(url))


@pytest.fixture
def page(asking: Asking) -> dict[str, Any]:
    return asking.get("/openapi.json").json()


class Walk:
    """Sends the page's own examples, with ids that there are in the place of theirs."""

    def __init__(self, asking: Asking, page: dict[str, Any]) -> None:
        self._asking, self._page = asking, page
        self.unasked = {
            (path, method)
            for path, methods in page["paths"].items()
            for method in methods
            if path.startswith(("/rate/", "/studies/"))
        }

    def example(self, path: str, which: str = "usual", **ids: Any) -> dict[str, Any]:
        body = self._page["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        value = {**body["examples"][which]["value"], **ids}
        jsonschema.Draft202012Validator(body["schema"]).validate(value)
        return value

    def post(self, path: str, value: dict[str, Any], token: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._checked(path, "post", self._asking.post(path, value, headers=headers))

    def get(self, path: str, token: str = "", **params: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self._asking.get(path, params=params, headers=headers)
        return self._checked(path, "get", answer)

    def _checked(self, path: str, method: str, answer: Any) -> dict[str, Any]:
        """The answer, once it is one that the page tells, with no field that it does not."""
        assert answer.status_code == 200, answer.text
        self.unasked -= {(path, method)}
        content = self._page["paths"][path][method]["responses"]["200"]["content"]
        told = content[answer.headers["content-type"].split(";")[0]]["schema"]
        if answer.headers["content-type"] != "application/json":
            return {}
        closed = {
            name: {"additionalProperties": False, **one} if one["type"] == "object" else one
            for name, one in self._page["components"]["schemas"].items()
        }
        schema = {**told, "components": {"schemas": closed}}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
        return answer.json()


def test_every_example_is_answered_as_the_page_says(
    asking: Asking, page: dict[str, Any], engine: sa.Engine
) -> None:
    walk = Walk(asking, page)
    made = walk.post("/studies/create", walk.example("/studies/create"))["study"]
    pairs = study(engine, mode="pairs", real=0, generated={"ldm": 4}).id
    for id, which in ((made, "of one ECG"), (pairs, "of a pair")):  # noqa: A001
        rater = walk.post("/studies/invite", walk.example("/studies/invite", study=id))
        token = rater["token"]
        assert walk.get("/rate/progress", token)["total"] > 1
        before = walk.get("/rate/ecg", token, position=0)
        shown = {"presentation": before["presentation"], "id": str(uuid.uuid4())}
        kept = walk.post("/rate/answer", walk.example("/rate/answer", which, **shown), token)
        assert kept["stands"]
        assert walk.get("/rate/ecg", token, position=0)["answer"]["confidence"] in (2, 3)
        another = {**shown, "id": str(uuid.uuid4()), "based_on": 1}
        undone = walk.post("/rate/undo", walk.example("/rate/undo", **another), token)
        assert undone["answered"] == []
        revoked = walk.example("/studies/revoke", rater=rater["rater"])
        assert walk.post("/studies/revoke", revoked)["revoked"]
        walk.get("/studies/list")
        walk.post("/studies/close", walk.example("/studies/close", study=id))
        for form in ("html", "json", "csv"):
            walk.get("/studies/report", study=id, format=form)
        walk.get("/studies/export", study=id)
    assert not walk.unasked


def test_a_text_in_the_place_of_a_number_is_no_plan_and_no_answer(asking: Asking) -> None:
    """The page says which is which, and nothing is guessed."""
    plan = {"name": "P", "labels": {"NORM": 1}, "generated": {"ldm": 2}, "seed": "7"}
    answer = asking.post("/studies/create", plan)
    assert answer.status_code == 422 and "seed" in answer.json()["detail"]
