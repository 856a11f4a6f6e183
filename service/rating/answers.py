"""What a rater says of what was shown, and how it is kept: every revision, each of them once.

A revision says which one it was `based_on`: the one that stood when the rater gave it. Only such a
revision stands. What comes late, from a second tab or after a lost connection, is kept beside it
and does not overwrite what was said later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal, NamedTuple

import orjson
import sqlalchemy as sa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from ecg.errors import UnreadableError, UnservableError
from ecg.leads import LEADS
from service import problems
from service.rating.tables import ANSWERS, PRESENTATIONS, RATERS, STUDIES, now, writing

DEFECTS = {
    "p_wave": "P wave",
    "pr": "PR interval",
    "qrs": "QRS",
    "st_t": "ST/T",
    "rr": "RR regularity",
    "coherence": "lead coherence",
    "noise": "noise",
    "artefact": "artefact",
}
MAX_MARKS, MAX_TEXT = 60, 2000
Uuid = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
PresentationId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _one_of(known: Collection[str]) -> tuple[AfterValidator, FieldInfo]:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return AfterValidator(check), Field(json_schema_extra={"enum": list(known)})


class Mark(_Strict):
    """A defect; where it lies, if the rater said so."""

    kind: Annotated[str, *_one_of(DEFECTS)]
    lead: Annotated[str, *_one_of(LEADS)] | None
    time_s: Annotated[float, Field(ge=0, le=10)] | None


class Single(_Strict):
    """Of one ECG. confidence: 1 a guess, 2 fairly sure, 3 certain; plausibility: 1 impossible to 5
    as from a patient; seconds: that the rater took."""

    source: Literal["real", "generated"]
    confidence: Annotated[int, Field(ge=1, le=3)]
    label: Literal["yes", "no", "unsure"]
    plausibility: Annotated[int, Field(ge=1, le=5)]
    defects: Annotated[list[Mark], Field(max_length=MAX_MARKS)] = []
    comment: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    seconds: Annotated[float, Field(ge=0, le=1e6)] | None = None


class Pair(_Strict):
    """Of two: which is the better ECG of the label."""

    better: Literal["first", "second", "neither"]
    confidence: Annotated[int, Field(ge=1, le=3)]
    comment: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    seconds: Annotated[float, Field(ge=0, le=1e6)] | None = None


class Given(_Strict):
    """A revision as it is sent: `id` is the client's, the same however often it is sent."""

    id: Uuid
    presentation: PresentationId
    based_on: Annotated[int, Field(ge=0, le=100_000)]
    answer: dict[str, Any] | None = None  # None: what stood is undone


class Revision(NamedTuple):
    """A kept one; `answer` None where it undoes."""

    revision: int
    based_on: int
    answer: dict[str, Any] | None


class Kept(NamedTuple):
    """What became of a revision that was sent: its number, and whether it stands."""

    revision: int
    stands: bool


def standing(revisions: Iterable[Revision]) -> Revision:
    """The one that counts; number 0 and no answer where none does."""
    found = Revision(0, 0, None)
    for one in sorted(revisions):
        if one.based_on == found.revision:
            found = one
    return found


def read_given(body: bytes, undoing: bool) -> Given:
    """Errors: UnreadableError, UnservableError that names the field."""
    try:
        given = Given.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise UnreadableError("not valid JSON") from None
    except ValidationError as error:
        raise _unfit(error) from None
    if undoing and given.answer is not None:
        raise UnservableError("is not taken here: /rate/answer keeps answers", "answer")
    if not undoing and given.answer is None:
        raise UnservableError("is missing; to take one back, ask /rate/undo", "answer")
    return given


def checked(answer: dict[str, Any] | None, mode: str) -> str:
    """The answer as it is kept, an empty object where there is none. Errors: UnservableError."""
    if answer is None:
        return "{}"
    try:
        kind = Pair if mode == "pairs" else Single
        return kind.model_validate(answer).model_dump_json()
    except ValidationError as error:
        raise _unfit(error).within("answer") from None


def keep(engine: sa.Engine, rater: str, given: Given) -> Kept:
    """Append the revision, unless it is there already; durable once this returns.

    Errors: Problem where the study is closed, where the presentation is not the rater's, or where
    another revision has that id; UnservableError.
    """
    with writing(engine) as connection:
        study = connection.execute(
            sa.select(STUDIES.c.mode, STUDIES.c.closed)
            .join(RATERS, RATERS.c.study == STUDIES.c.id)
            .where(RATERS.c.id == rater)
            .with_for_update(read=True, of=STUDIES)  # nobody closes it meanwhile
        ).one()
        text = checked(given.answer, study.mode)
        # the rater's tabs one after the other
        connection.execute(sa.select(RATERS.c.id).where(RATERS.c.id == rater).with_for_update())
        shown = connection.execute(
            sa.select(PRESENTATIONS.c.id).where(
                PRESENTATIONS.c.id == given.presentation, PRESENTATIONS.c.rater == rater
            )
        ).first()
        if shown is None:
            raise problems.no_such_presentation()
        before = revisions_of(connection, [given.presentation])[given.presentation]
        if (known := _known(connection, given, text, before)) is not None:
            return known
        if study.closed is not None:
            raise problems.study_closed()
        number = 1 + max((one.revision for one in before), default=0)
        connection.execute(
            sa.insert(ANSWERS).values(
                id=given.id,
                presentation=given.presentation,
                revision=number,
                based_on=given.based_on,
                undone=given.answer is None,
                given=text,
                created=now(),
            )
        )
        return Kept(number, given.based_on == standing(before).revision)


def revisions_of(connection: sa.Connection, presentations: list[str]) -> dict[str, list[Revision]]:
    """Of each of the presentations, oldest first."""
    found: dict[str, list[Revision]] = {one: [] for one in presentations}
    rows = connection.execute(
        sa.select(ANSWERS)
        .where(ANSWERS.c.presentation.in_(presentations))
        .order_by(ANSWERS.c.revision)
    )
    for row in rows:
        answer = None if row.undone else orjson.loads(row.given)
        found[row.presentation].append(Revision(row.revision, row.based_on, answer))
    return found


def _known(
    connection: sa.Connection, given: Given, text: str, before: list[Revision]
) -> Kept | None:
    """What was said to it when it came before. Errors: Problem where it then was another."""
    row = connection.execute(sa.select(ANSWERS).where(ANSWERS.c.id == given.id)).first()
    if row is None:
        return None
    sent = (given.presentation, given.based_on, given.answer is None, text)
    if (row.presentation, row.based_on, row.undone, row.given) != sent:
        raise problems.another_answer()
    earlier = [one for one in before if one.revision <= row.revision]
    return Kept(row.revision, standing(earlier).revision == row.revision)


def _unfit(error: ValidationError) -> UnservableError:
    """Its first complaint; the names of fields that there are not are the client's, and unsaid."""
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "extra_forbidden":
        return UnservableError("holds a field that is not asked for")
    where = ".".join(str(part) for part in first["loc"])
    return UnservableError(first["msg"].removeprefix("Value error, "), where)
