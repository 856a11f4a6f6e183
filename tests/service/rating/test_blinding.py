"""Nothing but the picture tells a generated ECG from a real one, or a repeat from a first showing.

A classifier is given everything else that whoever asks can see, and must stay at chance: ids,
sizes, headers, what is told, and the order. The same classifier finds each of several
planted leaks.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from service.rating import showing, studies
from service.rating.studies import Presentation, Study
from tests.service.rating.asking import Asking, door
from tests.service.rating.made import shown_to, study

BOUND = 0.55
CHARACTERS = "0123456789abcdef"


def observed(answer: httpx.Response, position: int, total: int) -> list[float]:
    """All of an answer but the picture, as numbers."""
    told = answer.json()
    prints, filling = told.pop("prints"), told.pop("filling")
    ids = told["presentation"] + told["request_id"]
    values = [float(len(answer.content)), float(len(prints)), position / total]
    values += [float(CHARACTERS.index(c)) for c in ids]
    values += [float(told["revision"]), float(told["position"]), float(len(filling) > 0)]
    values.append(hashed(told["label"]))
    values.append(float(len(json.dumps(told))))
    headers = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
    values += [float(len(headers)), float(sum(len(k) + len(v) for k, v in headers.items()))]
    return [*values, hashed(sorted(headers.items())), hashed(told["strips"])]


def hashed(value: Any) -> float:
    return float(int(hashlib.sha256(json.dumps(value).encode()).hexdigest()[:4], 16))


def auroc(seen: np.ndarray, truth: np.ndarray, group: np.ndarray) -> float:
    """Cross-validated, an ECG in one fold alone. Of leaks either way round, and of orders."""
    forest = RandomForestClassifier(120, min_samples_leaf=5, random_state=0, n_jobs=1)
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
    made = study(engine, real=60, generated={"ldm": 60}, repeats=0.2)
    seen, generated, repeats, group = gathered(engine, url, made, 8)
    assert len(seen) == 8 * 144
    assert auroc(seen, generated, group) <= BOUND
    assert len(set(seen[:, 0])) == 1, "the same size always"
    # where it comes is what makes a repeat; all else must not
    later = np.arange(seen.shape[1])[~np.all(seen == seen[0], axis=0)]
    positions = [k for k in later if abs(np.corrcoef(seen[:, k], seen[:, 2])[0, 1]) > 0.9]
    kept = [k for k in later if k not in positions]
    assert len(kept) >= 64
    assert auroc(seen[:, kept], repeats, group) <= BOUND


def unpadded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies as long as what is in them, and generated ECGs drawn a little finer."""
    from service.answering import json_response

    monkeypatch.setattr(
        "service.rating.endpoints.padded",
        lambda value, block, request_id: json_response(
            {**value, "filling": "", "request_id": request_id}
        ),
    )
    plain = showing._layout

    def finer(sig: np.ndarray, fs: float, filtered: str) -> Any:
        page = plain(sig, fs, filtered)
        smooth = np.abs(np.diff(sig[0].astype(float), 2)).mean() < 0.012
        return type(page)(page + 5000 * smooth)

    monkeypatch.setattr(showing, "_layout", finer)


def ids_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presentations numbered through by their ECGs' sources."""
    plain = studies._shown

    def ordered(connection, study, rater, number):
        rows = plain(connection, study, rater, number)
        asked = sa.select(studies.ITEMS.c.id, studies.ITEMS.c.source)
        source = dict(connection.execute(asked).tuples())
        by_source = sorted(range(len(rows)), key=lambda i: source[rows[i]["item"]])
        new = {rows[i]["id"]: f"{k:04x}{rows[i]['id'][4:]}" for k, i in enumerate(by_source)}
        return [
            {**r, "id": new[r["id"]], "repeat_of": r["repeat_of"] and new[r["repeat_of"]]}
            for r in rows
        ]

    monkeypatch.setattr(studies, "_shown", ordered)


def told_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field more for one kind of ECG."""
    plain = showing.shown

    def more(study: Study, one: Presentation) -> dict[str, Any]:
        smooth = np.abs(np.diff(showing.unpacked(one.sigs[0])[0].astype(float), 2)).mean() < 0.012
        return {**plain(study, one), **({"synthetic": True} if smooth else {})}

    monkeypatch.setattr(showing, "shown", more)


@pytest.mark.parametrize("plant", [unpadded, ids_in_order, told_what_it_is])
def test_a_planted_leak_is_found(
    engine: sa.Engine,
    url: str,
    drawn: None,
    no_picture: None,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
) -> None:
    plant(monkeypatch)
    made = study(engine, real=40, generated={"ldm": 40})
    seen, generated, _, group = gathered(engine, url, made, 3)
    assert auroc(seen, generated, group) > 0.75
