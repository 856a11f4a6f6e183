"""Studies and their raters, as the database has them.

A rater's link holds a token, `rater_ID_SECRET`, of which the database keeps the SHA-256: the secret
is 256 random bits. It opens what that rater is shown and says, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from service.rating.answers import Revision, revisions_of, standing
from service.rating.material import Ecg, in_json, packed
from service.rating.order import course
from service.rating.plan import Plan
from service.rating.tables import (
    ANSWERS,
    ITEMS,
    PRESENTATIONS,
    RATERS,
    STUDIES,
    now,
    utc,
    writing,
)

PREFIX = "rater_"
MOST_RATERS = 500  # of a study
_TOKEN = re.compile(r"rater_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Study:
    """A row; `plan` is what the owner said and what the ECGs were made with."""

    id: str
    name: str
    mode: str
    seed: int
    plan: dict[str, Any]
    fs: float
    created: datetime
    closed: datetime | None


@dataclass(frozen=True)
class Rater:
    """A row, without the token's hash. `simulated`: a program's, not a person's."""

    id: str
    study: str
    number: int
    name: str
    simulated: bool
    created: datetime
    revoked: datetime | None


@dataclass(frozen=True)
class Progress:
    """How far a rater is: of `total` presentations those at `answered` have an answer that
    stands; `last` is where the newest of them is."""

    total: int
    answered: list[int]
    last: int | None


def create(engine: sa.Engine, plan: Plan, ecgs: Sequence[Ecg], made_with: dict[str, Any]) -> Study:
    """A new study, whole or not at all."""
    study = {
        "id": secrets.token_hex(6),
        "name": plan.name,
        "mode": plan.mode,
        "seed": plan.seed,
        "plan": in_json({**plan.model_dump(), **made_with}),
        "fs": made_with["preparation"]["fs"],
        "created": now(),
        "closed": None,
    }
    rows = [
        {
            "id": secrets.token_hex(8),
            "study": study["id"],
            "number": number,
            "source": one.source,
            "label": one.label,
            "origin": in_json(one.origin),
            "sig": packed(one.sig),
        }
        for number, one in enumerate(ecgs)
    ]
    with writing(engine) as connection:
        connection.execute(sa.insert(STUDIES).values(study))
        connection.execute(sa.insert(ITEMS), rows)
    return find(engine, study["id"])


def all_of(engine: sa.Engine) -> list[Study]:
    """Oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(sa.select(STUDIES).order_by(STUDIES.c.created)).mappings()
        return [_study(row) for row in rows]


def find(engine: sa.Engine, id: str) -> Study:  # noqa: A002
    """Errors: LookupError."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(STUDIES).where(STUDIES.c.id == id)).mappings().first()
    if row is None:
        raise LookupError(id)
    return _study(row)


def close(engine: sa.Engine, id: str) -> bool:  # noqa: A002
    """Whether it was open until now. No answer is taken from here on."""
    change = sa.update(STUDIES).where(STUDIES.c.id == id, STUDIES.c.closed.is_(None))
    with writing(engine) as connection:
        return connection.execute(change.values(closed=now())).rowcount == 1


def invite(
    engine: sa.Engine, study: Study, name: str, simulated: bool = False
) -> tuple[Rater, str]:
    """A new rater, all that they will be shown, and their token, which is told only now.
    Errors: ValueError where the study is closed or full."""
    secret = secrets.token_urlsafe(32)
    rater_id = secrets.token_hex(6)
    with writing(engine) as connection:
        locked = sa.select(STUDIES.c.closed).where(STUDIES.c.id == study.id).with_for_update()
        if connection.execute(locked).scalar_one() is not None:
            raise ValueError("the study is closed")
        counted = sa.select(sa.func.count()).where(RATERS.c.study == study.id)
        number = connection.execute(counted).scalar_one()
        if number >= MOST_RATERS:
            raise ValueError(f"a study has {MOST_RATERS} raters at most")
        rater = {
            "id": rater_id,
            "study": study.id,
            "number": number,
            "name": name,
            "simulated": simulated,
            "sha256": _hash(secret),
            "created": now(),
            "revoked": None,
        }
        connection.execute(sa.insert(RATERS).values(rater))
        connection.execute(sa.insert(PRESENTATIONS), _shown(connection, study, rater_id, number))
    rater.pop("sha256")
    return Rater(**rater), f"{PREFIX}{rater_id}_{secret}"


def revoke(engine: sa.Engine, rater: str) -> bool:
    """Whether there was such a link to end. What its rater said stays."""
    change = sa.update(RATERS).where(RATERS.c.id == rater, RATERS.c.revoked.is_(None))
    with writing(engine) as connection:
        return connection.execute(change.values(revoked=now())).rowcount == 1


def rater_of(engine: sa.Engine, token: str) -> Rater | None:
    """Whose token it is, if it is one and was not revoked."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    with engine.connect() as connection:
        row = connection.execute(sa.select(RATERS).where(RATERS.c.id == found[1])).mappings()
        one = row.first()
    if one is None or not hmac.compare_digest(_hash(found[2]), one["sha256"]):
        return None
    return _rater(one) if one["revoked"] is None else None


def raters_of(engine: sa.Engine, study: str) -> list[Rater]:
    """In the order in which they were invited."""
    asked = sa.select(RATERS).where(RATERS.c.study == study).order_by(RATERS.c.number)
    with engine.connect() as connection:
        return [_rater(row) for row in connection.execute(asked).mappings()]


def progress(engine: sa.Engine, rater: str) -> Progress:
    return _progress(engine, RATERS.c.id == rater).get(rater, Progress(0, [], None))


def progress_of_all(engine: sa.Engine, study: str) -> dict[str, Progress]:
    """Of each of the study's raters."""
    return _progress(engine, RATERS.c.study == study)


def _progress(engine: sa.Engine, of: sa.ColumnElement[bool]) -> dict[str, Progress]:
    shown = sa.select(PRESENTATIONS.c.id, PRESENTATIONS.c.position, PRESENTATIONS.c.rater)
    shown = shown.join_from(PRESENTATIONS, RATERS).where(of).order_by(PRESENTATIONS.c.position)
    said = sa.select(*(ANSWERS.c[name] for name in _SAID))
    said = said.select_from(ANSWERS.join(PRESENTATIONS).join(RATERS)).where(of)
    with engine.connect() as connection:
        given: dict[str, list[Revision]] = {}
        when: dict[str, datetime] = {}
        for one in connection.execute(said):
            answer = None if one.undone else {}
            given.setdefault(one.presentation, []).append(
                Revision(one.revision, one.based_on, answer)
            )
            when[one.presentation] = max(one.created, when.get(one.presentation, one.created))
        rows: dict[str, list[sa.Row]] = {}
        for row in connection.execute(shown):
            rows.setdefault(row.rater, []).append(row)
    stands = {one for one, some in given.items() if standing(some).answer is not None}
    return {rater: _of_rater(some, stands, when) for rater, some in rows.items()}


_SAID = ("presentation", "revision", "based_on", "undone", "created")


def _of_rater(rows: list[sa.Row], stands: set[str], when: dict[str, datetime]) -> Progress:
    answered = [row for row in rows if row.id in stands]
    newest = max(answered, key=lambda row: when[row.id], default=None)
    return Progress(
        len(rows), [row.position for row in answered], newest.position if newest else None
    )


@dataclass(frozen=True)
class Presentation:
    """What is shown at a position, and what stands of the rater's answers to it. sigs: one as
    stored, or a pair's first and second."""

    id: str
    position: int
    label: str
    sigs: list[bytes]
    stands: Revision


def presentation(engine: sa.Engine, rater: str, position: int) -> Presentation:
    """Errors: LookupError."""
    first, second = ITEMS.alias("first"), ITEMS.alias("second")
    asked = (
        sa.select(PRESENTATIONS.c.id, first.c.label, first.c.sig, second.c.sig.label("other"))
        .join(first, first.c.id == PRESENTATIONS.c.item)
        .outerjoin(second, second.c.id == PRESENTATIONS.c.other)
        .where(PRESENTATIONS.c.rater == rater, PRESENTATIONS.c.position == position)
    )
    with engine.connect() as connection:
        row = connection.execute(asked).first()
        if row is None:
            raise LookupError(position)
        stands = standing(revisions_of(connection, [row.id])[row.id])
    sigs = [sig for sig in (row.sig, row.other) if sig is not None]
    return Presentation(row.id, position, row.label, sigs, stands)


def _shown(
    connection: sa.Connection, study: Study, rater: str, number: int
) -> list[dict[str, Any]]:
    """The rows of a new rater's presentations, each of a random id."""
    asked = sa.select(ITEMS.c.id, ITEMS.c.label).where(ITEMS.c.study == study.id)
    items = connection.execute(asked.order_by(ITEMS.c.number)).all()
    labels = [item.label for item in items]
    shown = course(labels, study.mode, study.plan["repeats"], study.seed, number)
    if not shown:
        raise ValueError("the study has no two ECGs of one label to compare")
    ids = [secrets.token_hex(16) for _ in shown]
    return [
        {
            "id": ids[position],
            "rater": rater,
            "position": position,
            "item": items[one.item].id,
            "other": None if one.other is None else items[one.other].id,
            "repeat_of": None if one.repeat_of is None else ids[one.repeat_of],
        }
        for position, one in enumerate(shown)
    ]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _study(row: sa.RowMapping) -> Study:
    created, closed = utc(row["created"]), utc(row["closed"])
    assert created is not None
    given = {**row, "plan": orjson.loads(row["plan"]), "created": created, "closed": closed}
    return Study(**given)


def _rater(row: sa.RowMapping) -> Rater:
    names = ("id", "study", "number", "name", "simulated", "created", "revoked")
    given = {name: row[name] for name in names}
    return Rater(**{**given, "created": utc(row["created"]), "revoked": utc(row["revoked"])})
