"""Answers: kept once, in revisions, and none mixed with another's."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from ecg.errors import EcgError
from service.problems import Problem
from service.rating import answers, studies
from service.rating.answers import Revision, keep, standing
from service.rating.studies import Rater
from service.rating.tables import ANSWERS
from tests.service.rating.made import given, pair, shown_to, single, study


@pytest.fixture
def rater(engine: sa.Engine) -> Rater:
    return studies.invite(engine, study(engine, generated={"ldm": 4}, real=4), "A program", True)[0]


@pytest.fixture
def ids(engine: sa.Engine, rater: Rater) -> list[str]:
    return [one["id"] for one in shown_to(engine, rater)]


def rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(ANSWERS)).scalar_one()


def stands(engine: sa.Engine, rater: Rater, position: int) -> dict | None:
    return studies.presentation(engine, rater.id, position).stands.answer


def test_the_newest_revision_that_knew_of_the_one_before_counts() -> None:
    a, b, c = {"n": 1}, {"n": 2}, {"n": 3}
    assert standing([]) == Revision(0, 0, None)
    assert standing([Revision(1, 0, a), Revision(2, 1, b)]).answer == b
    assert standing([Revision(1, 0, a), Revision(2, 1, None)]) == Revision(2, 1, None)
    late = [Revision(1, 0, a), Revision(2, 1, b), Revision(3, 0, c)]
    assert standing(late).answer == b
    assert standing([*late, Revision(4, 2, c)]).answer == c
    assert standing([*late, Revision(4, 3, c)]).answer == b, "that never stood"
    random.Random(1).shuffle(late)
    assert standing(late).answer == b


def test_an_answer_is_kept_and_progress_goes_on(
    engine: sa.Engine, rater: Rater, ids: list[str]
) -> None:
    kept = keep(engine, rater.id, given(ids[3], single(plausibility=2)))
    assert kept == (1, True)
    assert studies.progress(engine, rater.id).answered == [3]
    assert studies.progress(engine, rater.id).last == 3
    told = stands(engine, rater, 3)
    assert told is not None and told["plausibility"] == 2
    assert stands(engine, rater, 0) is None


def test_what_is_sent_twice_is_kept_once(engine: sa.Engine, rater: Rater, ids: list[str]) -> None:
    sent = given(ids[0], single())
    assert {keep(engine, rater.id, sent) for _ in range(3)} == {(1, True)}
    assert rows(engine) == 1
    keep(engine, rater.id, given(ids[0], single(plausibility=1), based_on=1))
    assert keep(engine, rater.id, sent) == (1, True), "as it was answered then"
    changed = sent.model_copy(update={"answer": single(plausibility=5)})
    with pytest.raises(Problem) as refused:
        keep(engine, rater.id, changed)
    assert refused.value.status == 409
    assert rows(engine) == 2


def test_an_undone_answer_can_be_given_again(
    engine: sa.Engine, rater: Rater, ids: list[str]
) -> None:
    keep(engine, rater.id, given(ids[0], single()))
    keep(engine, rater.id, given(ids[1], single()))
    assert keep(engine, rater.id, given(ids[1], None, based_on=1)) == (2, True)
    found = studies.progress(engine, rater.id)
    assert (found.answered, found.last) == ([0], 0)
    assert keep(engine, rater.id, given(ids[1], single(label="no"), based_on=2)) == (3, True)
    told = stands(engine, rater, 1)
    assert told is not None and told["label"] == "no"
    assert rows(engine) == 4, "nothing was lost"


def test_what_a_second_tab_says_late_is_kept_beside_what_stands(
    engine: sa.Engine, rater: Rater, ids: list[str]
) -> None:
    keep(engine, rater.id, given(ids[0], single(label="yes")))
    late = keep(engine, rater.id, given(ids[0], single(label="no")))
    assert late == (2, False)
    told = stands(engine, rater, 0)
    assert told is not None and told["label"] == "yes"
    assert keep(engine, rater.id, given(ids[0], single(label="unsure"), based_on=1)).stands


def test_tabs_at_once_lose_and_double_nothing(
    engine: sa.Engine, rater: Rater, ids: list[str]
) -> None:
    """Each answer sent by three at once, as a browser that tries again; and rivals for one ECG."""
    sent = [given(ids[0], single(comment=str(i))) for i in range(6)]
    barrier = threading.Barrier(6)

    def send(i: int) -> list[answers.Kept]:
        barrier.wait()
        return [keep(engine, rater.id, sent[(i + k) % 6]) for k in range(3)]

    with ThreadPoolExecutor(6) as pool:
        found = [kept for some in pool.map(send, range(6)) for kept in some]
    assert rows(engine) == 6
    assert {kept.revision for kept in found} == set(range(1, 7))
    assert {kept.revision for kept in found if kept.stands} == {1}


def test_another_raters_ecg_cannot_be_answered(
    engine: sa.Engine, rater: Rater, ids: list[str]
) -> None:
    other, _ = studies.invite(engine, studies.find(engine, rater.study), "Another program", True)
    with pytest.raises(Problem) as refused:
        keep(engine, other.id, given(ids[0], single()))
    assert refused.value.status == 404
    keep(engine, other.id, given(shown_to(engine, other)[0]["id"], single()))
    assert studies.progress(engine, rater.id).answered == []
    assert studies.progress(engine, other.id).answered == [0]


def test_a_closed_study_takes_nothing_but_knows_what_it_has(
    engine: sa.Engine, rater: Rater, ids: list[str]
) -> None:
    sent = given(ids[0], single())
    keep(engine, rater.id, sent)
    assert studies.close(engine, rater.study) and not studies.close(engine, rater.study)
    with pytest.raises(Problem) as refused:
        keep(engine, rater.id, given(ids[1], single()))
    assert refused.value.kind == "study-closed"
    assert keep(engine, rater.id, sent) == (1, True)
    with pytest.raises(ValueError, match="closed"):
        studies.invite(engine, studies.find(engine, rater.study), "Late", True)


@pytest.mark.parametrize("statement", ["UPDATE answers SET given = '{}'", "DELETE FROM answers"])
def test_the_database_lets_nobody_change_what_was_said(
    engine: sa.Engine, rater: Rater, ids: list[str], statement: str
) -> None:
    keep(engine, rater.id, given(ids[0], single()))
    with engine.connect() as connection, pytest.raises(DatabaseError, match="only appended"):
        connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        (single(plausibility=6), "answer.plausibility"),
        (single(plausibility="3"), "answer.plausibility"),
        (single(source="fake"), "answer.source"),
        (
            single(defects=[{"kind": "u_wave", "lead": None, "time_s": None}]),
            "answer.defects.0.kind",
        ),
        (single(defects=[{"kind": "qrs", "lead": "V7", "time_s": 1}]), "answer.defects.0.lead"),
        (single(defects=[{"kind": "qrs", "lead": "V1", "time_s": 11}]), "answer.defects.0.time_s"),
        (single(comment="x" * 2001), "answer.comment"),
        (single(truth="generated"), "answer"),
        (pair(), "answer"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(
    engine: sa.Engine, rater: Rater, ids: list[str], answer: dict, where: str
) -> None:
    with pytest.raises(EcgError) as refused:
        keep(engine, rater.id, given(ids[0], answer))
    assert refused.value.where.startswith(where)
    assert rows(engine) == 0


def test_a_pairs_answer_is_of_pairs(engine: sa.Engine) -> None:
    made = study(engine, mode="pairs", generated={"ldm": 8}, real=8)
    rater, _ = studies.invite(engine, made, "A program", True)
    first = shown_to(engine, rater)[0]
    assert first["other"] not in (None, first["item"])
    with pytest.raises(EcgError):
        keep(engine, rater.id, given(first["id"], single()))
    assert keep(engine, rater.id, given(first["id"], pair(better="neither"))).stands
    assert len(studies.presentation(engine, rater.id, 0).sigs) == 2
