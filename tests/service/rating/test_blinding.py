"""Nothing but the picture tells a generated ECG from a real one, or a repeat from a first showing.

A classifier is given everything else that whoever asks can see, and must stay at chance: ids,
sizes, headers, what is told, and the order. The same classifier finds each of several
planted leaks. Time is not measured here: the same is done for all, and answers leave at beats; what
is left is measured by `python -m loadtest.rating`.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

import service
from service.answering import json_response
from service.rating import showing, studies
from service.rating.plan import REAL
from service.rating.studies import Presentation, Study
from service.rating.tables import ITEMS, PRESENTATIONS
from tests.service.rating.asking import Asking, door
from tests.service.rating.made import shown_to, study

BOUND = 0.55
CHARACTERS = "0123456789abcdef"
SERVICE = str(Path(service.__file__).parent)


def observed(answer: httpx.Response, position: int, total: int) -> list[float]:
    """All of an answer but the picture, as numbers."""
    told = answer.json()
    prints, filling = told.pop("prints"), told.pop("filling")
    ids = told["presentation"] + told["request_id"]
    values = [float(len(answer.content)), float(len(prints)), position / total]
    values += [float(CHARACTERS.index(c)) for c in ids]
    values += [float(told["revision"]), float(told["position"]), float(len(filling) > 0)]
    values.append(hashed(told["label"]))
    del told["position"]  # is in already
    values.append(float(len(json.dumps(told))))
    headers = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
    values += [float(len(headers)), float(sum(len(k) + len(v) for k, v in headers.items()))]
    return [*values, hashed(sorted(headers.items())), hashed(told["strips"])]


def hashed(value: Any) -> float:
    return float(int(hashlib.sha256(json.dumps(value).encode()).hexdigest()[:4], 16))


def auroc(seen: np.ndarray, truth: np.ndarray, group: np.ndarray) -> float:
    """Cross-validated, an ECG in one fold alone. Of leaks either way round, and of orders."""
    forest = RandomForestClassifier(80, min_samples_leaf=5, random_state=0, n_jobs=1)
    score = cross_val_predict(
        forest, seen, truth, groups=group, cv=GroupKFold(5), method="predict_proba"
    )[:, 1]
    return float(roc_auc_score(truth, score))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random ids that are the same in each run, so that chance decides once and for all."""
    rng = random.Random(4)
    for name in ("service.rating.studies.secrets.token_hex", "service.logs.new_request_id"):
        monkeypatch.setattr(name, lambda n=16: rng.randbytes(n).hex())


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of another length for each picture: drawing takes long, and is not looked at."""
    monkeypatch.setattr(showing, "svg_of", lambda page: "x" * page)
    one = showing.layout(showing.Record(np.zeros((12, 1000), "f4"), 100.0, showing.LEADS))

    class Page(int):
        strips = one.strips

    def layout(sig: np.ndarray, fs: float, filtered: str) -> Any:
        return Page(
            40_000 + int.from_bytes(hashlib.sha256(sig.tobytes()).digest()[:2], "big") % 9000
        )

    monkeypatch.setattr(showing, "_layout", layout)


def gathered(engine: sa.Engine, url: str, made: Study, n_raters: int) -> tuple[np.ndarray, ...]:
    """What raters see of all their presentations; which of them are generated, which are repeats,
    and the ECG of each."""
    one = door(url)
    seen, generated, repeats, group = [], [], [], []
    for i in range(n_raters):
        rater, token = studies.invite(engine, made, f"Program {i}", True)
        asking = Asking(one, token)
        rows = shown_to(engine, rater)
        for position, row in enumerate(rows):
            seen.append(observed(asking.get(f"/rate/ecg?position={position}"), position, len(rows)))
            generated.append(row["source"] != "real")
            repeats.append(row["repeat_of"] is not None)
            group.append(row["number"])
    return tuple(map(np.array, (seen, generated, repeats, group)))


def test_nothing_but_the_picture_tells_the_source(
    engine: sa.Engine, url: str, drawn: None, no_picture: None
) -> None:
    made = study(engine, real=50, generated={"ldm": 50}, repeats=0.2)
    seen, generated, repeats, group = gathered(engine, url, made, 5)
    assert len(seen) == 5 * 120
    assert auroc(seen, generated, group) <= BOUND
    assert len(set(seen[:, 0])) == 1, "the same size always"
    # that it comes late is what makes a repeat: all else must not
    where = np.array([abs(np.corrcoef(column, seen[:, 2])[0, 1]) > 0.9 for column in spread(seen)])
    assert where.sum() == 2
    assert auroc(seen[:, ~where], repeats, group) <= BOUND


def spread(seen: np.ndarray) -> np.ndarray:
    """The columns; those that never change with a little noise, for a correlation."""
    still = np.all(seen == seen[0], axis=0)
    return (seen + still * np.random.default_rng(0).random(seen.shape)).T


def test_the_same_is_done_for_every_presentation(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls in the same order, the same statements to the database, as many bytes read
    and sent: of real and generated ECGs, first showings and repeats. What drawing does with the
    signal is the picture's own."""
    made = study(engine, real=8, generated={"ldm": 8}, repeats=0.25)
    rater, _ = studies.invite(engine, made, "A program", True)
    read: list[tuple[int, ...]] = []
    plain = studies.presentation

    def counted(*of: Any) -> Presentation:
        found = plain(*of)
        read.append(tuple(len(sig) for sig in found.sigs))
        return found

    monkeypatch.setattr(studies, "presentation", counted)
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *of: asked.append(of[2]))
    done = set()
    rows = shown_to(engine, rater)
    for position in range(len(rows)):
        asked.clear()
        with calls() as called:
            one = studies.presentation(engine, rater.id, position)
            body = showing.padded(showing.shown(made, one), showing.BLOCK, "0" * 32).body
        done.add((tuple(called), tuple(asked), read[-1], len(body)))
    assert len({row["source"] for row in rows}) == 2 and any(row["repeat_of"] for row in rows)
    ((called, asked_each, _, _),) = done
    assert len(asked_each) == 2 and "shown" in called and "unpacked" in called


@contextmanager
def calls() -> Iterator[list[str]]:
    """The names of the functions of the service that this thread calls meanwhile, in order."""
    named: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SERVICE):
            named.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        yield named
    finally:
        sys.setprofile(None)


def test_an_answer_leaves_at_a_beat(
    engine: sa.Engine, url: str, no_picture: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was in the making: of what is asked of the clock, not by the clock."""
    for elapsed in (0.0, 0.001, 0.0249, 0.025, 0.0251, 3.1415):
        beats = (elapsed + showing.until_due(elapsed)) / showing.BEAT_S
        assert beats == pytest.approx(round(beats)) and beats >= elapsed / showing.BEAT_S
    waited: list[float] = []

    def never(elapsed_s: float) -> float:
        waited.append(elapsed_s)
        return 0.0

    monkeypatch.setattr(showing, "until_due", never)
    _, token = studies.invite(engine, study(engine), "A program", True)
    asking = Asking(door(url), token)
    for position in range(3):
        asking.get(f"/rate/ecg?position={position}")
    assert len(waited) == 3 and all(one > 0 for one in waited)


Sources = Callable[[str], bool]  # whether a presentation is of a generated ECG


def unpadded(monkeypatch: pytest.MonkeyPatch, generated: Sources) -> None:
    """Bodies as long as what is in them, and generated ECGs drawn a little finer."""
    plain = showing.shown

    def finer(study: Study, one: Presentation) -> dict[str, Any]:
        told = plain(study, one)
        return {
            **told,
            "prints": [text + " " * 4000 * generated(one.id) for text in told["prints"]],
        }

    monkeypatch.setattr(showing, "shown", finer)
    monkeypatch.setattr(
        "service.rating.endpoints.padded",
        lambda value, block, _: json_response({**value, "filling": "", "request_id": ""}),
    )


def told_what_it_is(monkeypatch: pytest.MonkeyPatch, generated: Sources) -> None:
    """A field more for one kind of ECG."""
    plain = showing.shown

    def more(study: Study, one: Presentation) -> dict[str, Any]:
        return {**plain(study, one), **({"synthetic": True} if generated(one.id) else {})}

    monkeypatch.setattr(showing, "shown", more)


def ids_in_order(monkeypatch: pytest.MonkeyPatch, generated: Sources) -> None:
    """Presentations numbered through by their ECGs' sources."""
    plain = studies._shown

    def ordered(connection: sa.Connection, *of: Any) -> list[dict[str, Any]]:
        rows = plain(connection, *of)
        found = connection.execute(sa.select(ITEMS.c.id, ITEMS.c.source))
        source = {item: kind for item, kind in found}
        by_source = sorted(range(len(rows)), key=lambda i: source[rows[i]["item"]])
        new = {rows[i]["id"]: f"{16 * k:04x}{rows[i]['id'][4:]}" for k, i in enumerate(by_source)}
        new[None] = None
        return [{**row, "id": new[row["id"]], "repeat_of": new[row["repeat_of"]]} for row in rows]

    monkeypatch.setattr(studies, "_shown", ordered)


@pytest.mark.parametrize("plant", [unpadded, told_what_it_is, ids_in_order])
def test_a_planted_leak_is_found(
    engine: sa.Engine,
    url: str,
    drawn: None,
    no_picture: None,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch, Sources], None],
) -> None:
    def generated(presentation: str) -> bool:
        asked = sa.select(ITEMS.c.source).join(PRESENTATIONS, PRESENTATIONS.c.item == ITEMS.c.id)
        with engine.connect() as connection:
            found = connection.execute(asked.where(PRESENTATIONS.c.id == presentation))
            return found.scalar_one() != REAL

    plant(monkeypatch, generated)
    made = study(engine, real=40, generated={"ldm": 40})
    seen, truth, _, group = gathered(engine, url, made, 3)
    assert auroc(seen, truth, group) > 0.75
