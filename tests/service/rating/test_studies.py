"""Studies: what they are made of, alike for real and generated, and who may answer in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from ecg.generated import twelve_leads
from ecg.prepare import Preparation
from service.rating import material, studies
from service.rating.material import Unsuitable, gather, prepared, read_real, unpacked, usable
from service.rating.plan import Plan, in_words, labels_of, parsed, shares
from service.rating.tables import ITEMS
from tests.service.rating.made import beats, generator, plan, real_npz, real_set, shown_to, study


def rows(engine: sa.Engine) -> list[sa.RowMapping]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(ITEMS).order_by(ITEMS.c.number)).mappings())


def test_each_source_has_the_same_mix_of_labels(engine: sa.Engine) -> None:
    study(engine, labels={"NORM": 2, "AFIB": 1}, real=9, generated={"ldm": 12})
    found = [(row["source"] == "real", row["label"]) for row in rows(engine)]
    assert [found.count((True, label)) for label in ("NORM", "AFIB")] == [6, 3]
    assert [found.count((False, label)) for label in ("NORM", "AFIB")] == [8, 4]
    assert shares({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}


def test_the_order_of_the_ecgs_says_nothing_of_their_source(engine: sa.Engine) -> None:
    study(engine, real=30, generated={"ldm": 30})
    real = [row["number"] for row in rows(engine) if row["source"] == "real"]
    assert real != sorted(range(30)) and 20 < np.mean(real) < 40
    ids = [row["id"] for row in rows(engine)]
    assert ids != sorted(ids)


def test_the_same_seed_makes_the_same_ecgs() -> None:
    generators = {"ldm": generator()}
    made = [gather(plan(seed=seed), generators, real_set()) for seed in (5, 5, 6)]
    for one, same in zip(made[0], made[1], strict=True):
        assert (one.source, one.label, one.origin) == (same.source, same.label, same.origin)
        assert np.array_equal(one.sig, same.sig)
    assert any(not np.array_equal(a.sig, b.sig) for a, b in zip(made[0], made[2], strict=True))


def test_each_ecg_says_where_it_is_from(engine: sa.Engine) -> None:
    ecgs = gather(plan(), {"ldm": generator()}, real_set())
    real = [one for one in ecgs if one.source == "real"]
    assert len({one.origin["patient"] for one in real}) == len(real)
    for one in real:
        assert set(one.label.split("+")) <= set(one.origin["present"])
    made = [one for one in ecgs if one.source != "real"]
    assert {one.source for one in made} == {"fake-ldm 0.0.7"}
    assert sorted(one.origin["row"] for one in made) == list(range(10))
    assert {one.origin["sha256"] for one in made} == {generator().card.sha256}


def test_real_and_generated_are_prepared_alike(rng) -> None:
    """Whatever their source: a baseline is removed, and samples are as coarse."""
    sig = beats(rng)[None]
    one, other = (prepared(sig + np.float32(mv), Preparation()) for mv in (0.0, 3.0))
    assert one.dtype == np.float16 and np.abs(one.astype(float) - other).max() < 0.01
    for ecg in gather(plan(), {"ldm": generator()}, real_set()):
        assert (ecg.sig.dtype, ecg.sig.shape) == (np.float16, (8, 1000))
        assert np.array_equal(unpacked(material.packed(ecg.sig)), ecg.sig)
        again = prepared(ecg.sig[None].astype(np.float32), Preparation())[0]
        assert np.abs(again.astype(float) - ecg.sig).mean() < 0.03, "it was prepared already"


def test_a_real_ecg_is_whole_or_not_taken(rng) -> None:
    sig = twelve_leads(beats(rng)[None])[0]
    assert np.array_equal(usable(sig, 100.0, Preparation())[:2], sig[:2])
    lacking = sig.copy()
    lacking[7] = 0
    assert usable(lacking, 100.0, Preparation()) is None
    assert usable(sig[:, :900], 100.0, Preparation()) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": {"NORM": 1, "LVH": 1}}, "lacks 5 usable ECGs of other patients that show LVH"),
        ({"real": 200}, "lacks"),
        ({"labels": {"WPW": 1}, "real": 0}, "does not cover WPW"),
    ],
)
def test_what_cannot_be_had_is_said(changes: dict, says: str) -> None:
    with pytest.raises(Unsuitable, match=says):
        gather(plan(**changes), {"ldm": generator()}, real_set())


def test_a_set_that_is_not_real_is_refused() -> None:
    with pytest.raises(Unsuitable, match="synthetic"):
        read_real(real_npz(4, synthetic=True))
    with pytest.raises(Unsuitable, match="no NPZ"):
        read_real(b"PK\x03\x04 nothing")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"NOPE": 1}},
        {"labels": {}},
        {"labels": {"NORM": 0}},
        {"labels": {"SR+SR": 1}},
        {"generated": {"../ldm": 3}},
        {"generated": {}, "real": 1},
        {"repeats": 0.6},
        {"mode": "triples"},
        {"name": "a\nb"},
        {"seed": -1},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict) -> None:
    with pytest.raises(ValidationError):
        plan(**changes)


def test_labels_are_read_and_told_in_words() -> None:
    assert parsed("NORM:2, AFIB,SR+LVH:3") == {"NORM": 2, "AFIB": 1, "SR+LVH": 3}
    for wrong in ("NORM:x", "NORM,NORM", ":2"):
        with pytest.raises(ValueError, match="say NAME"):
            parsed(wrong)
    assert labels_of("AFIB").atrial_substrate == "abnormal"
    assert labels_of("SR+LVH").statements == ("SR", "LVH")
    assert labels_of("normal").statements == ()
    assert in_words("SR+LVH") == "sinus rhythm (SR), left ventricular hypertrophy (LVH)"
    assert Plan.model_validate(plan().model_dump()) == plan()


def test_a_link_opens_one_raters_study_until_it_is_ended(engine: sa.Engine, url: str) -> None:
    made = study(engine)
    one, token = studies.invite(engine, made, "A program", True)
    _, other = studies.invite(engine, made, "Another program", True)
    assert studies.rater_of(engine, token) == one
    assert studies.rater_of(engine, token[:19] + other[19:]) is None, "of another's secret"
    for wrong in ("", token[:-1], token + "x", f"rater_{'0' * 12}_{'x' * 43}", f"ecg_{token[6:]}"):
        assert studies.rater_of(engine, wrong) is None
    secret = token[19:].encode()
    folder = Path(url.removeprefix("sqlite:///")).parent
    assert not any(secret in path.read_bytes() for path in folder.iterdir())
    assert studies.revoke(engine, one.id) and not studies.revoke(engine, one.id)
    assert studies.rater_of(engine, token) is None
    assert studies.rater_of(engine, other) is not None


def test_raters_see_the_same_ecgs_in_orders_and_under_ids_of_their_own(engine: sa.Engine) -> None:
    made = study(engine)
    raters = [studies.invite(engine, made, name, True)[0] for name in ("one", "other")]
    shown = [shown_to(engine, rater) for rater in raters]
    assert {row["item"] for row in shown[0]} == {row["item"] for row in shown[1]}
    assert [row["item"] for row in shown[0]] != [row["item"] for row in shown[1]]
    assert not {row["id"] for row in shown[0]} & {row["id"] for row in shown[1]}
    assert [row["repeat_of"] is not None for row in shown[0]].count(True) == 2
