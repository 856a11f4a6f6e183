"""What raters and owners ask over HTTP, and what nobody else may."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from ecg.leads import LEADS
from service.access.scopes import SCOPES
from service.rating import showing, studies
from tests.service.guarded import Keys, bearer
from tests.service.rating.asking import Asking, door
from tests.service.rating.made import given, rate, real_npz, shown_to, simulated, single, study

RATER = ("/rate/progress", "/rate/ecg?position=0", "/rate/answer", "/rate/undo")
OWNER = ("/studies", "/studies/list", "/studies/report?study=x", "/studies/export?study=x")


@pytest.fixture
def rater(engine: sa.Engine):
    return studies.invite(engine, study(engine), "A program", True)


@pytest.fixture
def asking(url: str, rater) -> Asking:
    return Asking(door(url), rater[1])


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


def test_a_rater_looks_answers_undoes_and_goes_on(asking: Asking) -> None:
    told = asking.get("/rate/progress").json()
    assert (told["total"], told["answered"], told["closed"]) == (22, [], False)
    assert (told["study"], told["rater"], told["simulated"]) == ("A study", "A program", True)
    ecg = asking.get("/rate/ecg?position=0").json()
    assert ecg["answer"] is None and ecg["revision"] == 0
    assert ecg["label"]["words"] in ("normal ECG (NORM)", "atrial fibrillation (AFIB)")
    (svg,) = ecg["prints"]
    assert svg.startswith("<svg") and "high-pass 0.5 Hz" in svg and "Synthetic" not in svg
    assert {strip["lead"] for strip in ecg["strips"]} == set(LEADS)
    sent = given(ecg["presentation"], single()).model_dump()
    kept = asking.post("/rate/answer", sent).json()
    assert (kept["revision"], kept["stands"], kept["answered"], kept["last"]) == (1, True, [0], 0)
    assert asking.post("/rate/answer", sent).json()["revision"] == 1
    again = asking.get("/rate/ecg?position=0").json()
    assert again["answer"]["plausibility"] == 4 and again["revision"] == 1
    undone = given(ecg["presentation"], None, based_on=1).model_dump(exclude={"answer"})
    assert asking.post("/rate/undo", undone).json()["answered"] == []


def test_what_cannot_be_kept_is_a_problem(asking: Asking, engine: sa.Engine, rater) -> None:
    ecg = shown_to(engine, rater[0])[0]["id"]
    for body, status in (
        (b"{", 400),
        (b"[]", 422),
        (json.dumps(given(ecg, single(plausibility=9)).model_dump()).encode(), 422),
        (json.dumps({**given(ecg, single()).model_dump(), "id": "1"}).encode(), 422),
        (json.dumps(given("0" * 32, single()).model_dump()).encode(), 404),
        (json.dumps(given(ecg, None).model_dump()).encode(), 422),
        (b" " * 70_000, 413),
    ):
        problem(asking.post("/rate/answer", content=body), status)
    for position, status in (("", 422), ("-1", 422), ("22", 404), ("999999999", 422)):
        problem(asking.get(f"/rate/ecg?position={position}"), status)
    assert asking.get("/rate/progress").json()["answered"] == []


def test_a_refusal_says_what_would_be_right(asking: Asking, engine: sa.Engine, rater) -> None:
    ecg = shown_to(engine, rater[0])[0]["id"]

    def told(path: str, answer: dict | None) -> str:
        return problem(asking.post(path, given(ecg, answer).model_dump()), 422)

    assert "ask /rate/undo" in told("/rate/answer", None)
    assert "/rate/answer keeps answers" in told("/rate/undo", single())
    mark = {"kind": "ear", "lead": "II", "time_s": 1.0}
    said = told("/rate/answer", single(defects=[mark]))
    assert said.startswith("answer.defects.0.kind: must be one of p_wave, pr, qrs"), said


def test_without_a_good_link_nothing_is_told(url: str, rater, engine: sa.Engine) -> None:
    _, token = rater
    for wrong in ("", token[:-1] + ("a" if token[-1] != "a" else "b"), "ecg_x", "rater_"):
        asking = Asking(door(url), wrong)
        for path in RATER[:2]:
            problem(asking.get(path), 401)
        for path in RATER[2:]:
            problem(asking.post(path, {}), 401)
    studies.revoke(engine, rater[0].id)
    problem(Asking(door(url), token).get("/rate/progress"), 401)


def test_a_link_opens_its_study_alone_where_keys_are_asked_for(url: str, rater) -> None:
    asking = Asking(door(url, access="on"), rater[1])
    assert asking.get("/rate/progress").status_code == 200
    assert asking.get("/rate/ecg?position=0").status_code == 200
    for path in (*OWNER, "/", "/models", "/metrics", "/docs", "/openapi.json", "/static/page.js"):
        problem(asking.get(path), 403)
    for path in ("/classify", "/synthesize", "/studies/close", "/studies/create"):
        problem(asking.post(path, {}), 403)
    assert asking.get("/nothing").status_code == 404


def test_the_page_is_everyones_and_says_nothing(url: str, engine: sa.Engine) -> None:
    """Where keys are asked for, too: the same to whoever asks, and to nobody a study."""
    studies.invite(engine, study(engine, name="Secret study"), "A program", True)
    one = door(url, access="on")
    page = Asking(one).get("/rate")
    assert page.status_code == 200 and "Secret study" not in page.text
    assert page.text == Asking(one, "rater_x").get("/rate").text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    for name in (
        "rate.js",
        "rate.css",
        "asking.js",
        "form.js",
        "print.js",
        "help.js",
        "element.js",
    ):
        assert Asking(one).get(f"/static/rate/{name}").status_code == 200
    problem(Asking(one).post("/rate", {}), 401)
    problem(Asking(one).get("/static/rate/../page.js"), 401)


def test_a_key_opens_the_owners_endpoints_if_it_may_and_the_raters_never(
    url: str, tmp_path: Path
) -> None:
    keys = Keys.__new__(Keys)
    from service.database import connect

    keys.url, keys.engine = url, connect(url)
    owner, other = keys.make({"studies"}), keys.make(SCOPES - {"studies"})
    one = door(url, access="on")
    asking = Asking(one)
    for path in OWNER:
        problem(asking.get(path), 401)
        assert "studies" in problem(asking.get(path, headers=bearer(other)), 403)
        assert asking.get(path, headers=bearer(owner)).status_code in (200, 404)
    for path in RATER[:2]:
        problem(asking.get(path, headers=bearer(keys.make(SCOPES))), 401)
    assert "rate" not in SCOPES and "everyone" not in SCOPES
    keys.engine.dispose()


def test_too_many_bad_links_of_an_address_are_not_looked_up(url: str) -> None:
    asking = Asking(door(url, access="on", failures_per_minute=6), f"rater_{'0' * 12}_{'x' * 43}")
    found = [asking.get("/rate/progress").status_code for _ in range(4)]
    assert found[0] == 401 and found[-1] == 429


def test_an_owner_makes_invites_closes_and_reads(url: str, engine: sa.Engine) -> None:
    asking = Asking(door(url))
    plan = dict(name="Pilot", mode="single", labels={"NORM": 1, "AFIB": 1}, generated={"ldm": 6})
    plan |= {"real": 6, "repeats": 0.2, "seed": 11}
    files = [("file", ("plan.json", json.dumps(plan))), ("file", ("real.npz", real_npz(30)))]
    made = asking.post("/studies/create", files=files)
    assert made.status_code == 200, made.text
    id = made.json()["study"]  # noqa: A001
    invited = asking.post("/studies/invite", {"study": id, "name": "Program", "simulated": True})
    token = invited.json()["token"]
    rater = studies.rater_of(engine, token)
    assert rater is not None and rater.simulated
    for path in ("report", "export"):
        assert "close it first" in problem(asking.get(f"/studies/{path}?study={id}"), 409)
    rate(engine, rater, simulated, positions=range(10))
    (listed,) = asking.get("/studies/list").json()["studies"]
    assert (listed["raters"][0]["answered"], listed["raters"][0]["total"]) == (10, 14)
    assert token not in json.dumps(listed) and "sha256" not in json.dumps(listed["raters"])
    assert asking.post("/studies/close", {"study": id}).status_code == 200
    late = Asking(door(url), token)
    assert late.get("/rate/progress").json()["closed"] is True
    problem(late.get("/rate/ecg?position=0"), 409)
    page = asking.get(f"/studies/report?study={id}")
    assert page.headers["content-type"].startswith("text/html") and "Pilot" in page.text
    assert "style-src 'sha256-" in page.headers["content-security-policy"]
    told = asking.get(f"/studies/report?study={id}&format=json").json()
    assert told["n"]["answers"] == 10
    lines = asking.get(f"/studies/report?study={id}&format=csv").text
    assert lines.startswith("figure,value\n")
    problem(asking.get(f"/studies/report?study={id}&format=pdf"), 422)
    archive = zipfile.ZipFile(io.BytesIO(asking.get(f"/studies/export?study={id}").content))
    assert "study.npz" in archive.namelist()
    assert asking.post("/studies/revoke", {"rater": rater.id}).json()["revoked"] is True


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": {"NOPE": 1}}, "neither normal, abnormal nor a SCP statement"),
        ({"generated": {"other": 4}}, "not served here"),
        ({"generated": {"ldm": 400}}, "python -m service.studies create"),
        ({"real": 5}, "no set is given"),
        ({"colour": "red"}, "holds a field other than"),
        ({"name": "a\u0000b"}, "name: must be printable characters"),
        ({"generated": {"../ldm": 4}}, "must name folders of the models store"),
    ],
)
def test_a_plan_that_cannot_be_is_said(url: str, changes: dict, says: str) -> None:
    plan = dict(name="P", labels={"NORM": 1}, generated={"ldm": 4}, seed=1) | changes
    assert says in problem(Asking(door(url)).post("/studies/create", plan), 422)


def test_a_database_that_is_away_is_said_and_nothing_is_confirmed(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").mkdir()
    asking = Asking(
        door(f"sqlite:///{tmp_path}/state.sqlite"), "rater_" + "0" * 12 + "_" + "x" * 43
    )
    answer = asking.get("/rate/progress")
    assert problem(answer, 503) and answer.headers["retry-after"] == "5"


def test_bodies_are_of_one_length_and_are_not_to_be_packed() -> None:
    for n in (0, 1, 100, 3000):
        told = showing.padded({"told": "a" * n}, showing.SMALL_BLOCK, "0" * 32)
        assert len(told.body) == showing.SMALL_BLOCK
        assert json.loads(bytes(told.body))["told"] == "a" * n
        assert told.headers["cache-control"] == "no-store, no-transform"
