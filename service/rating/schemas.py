"""What an owner asks, and the answers' shapes, for the OpenAPI page and for clients that generate
code from it. What a rater sends is in `answers`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.rating.answers import Pair, PresentationId, Single
from service.rating.plan import Mode, Name
from service.schemas import RequestId

Id = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
Count = Annotated[int, Field(ge=0)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Invited(_Asked):
    """`simulated`: a program will answer, and whatever counts its answers says so."""

    study: Id
    name: Name
    simulated: bool = False


class OfStudy(_Asked):
    study: Id


class OfRater(_Asked):
    rater: Id


class _Answer(BaseModel):
    request_id: RequestId


class _Padded(_Answer):
    filling: str = Field(description="makes all answers as long as one another; says nothing")


class ProgressAnswer(_Padded):
    """`answered`: the positions that have an answer that stands; `last`: of the newest of them."""

    study: str
    mode: Mode
    rater: str
    simulated: bool
    closed: bool
    total: Count
    answered: list[Count]
    last: Count | None


class KeptAnswer(ProgressAnswer):
    """What was sent is durable. `stands`: false where another revision had come before it."""

    presentation: PresentationId
    revision: Count
    stands: bool


class LabelAnswer(BaseModel):
    code: str
    words: str


class StripAnswer(BaseModel):
    """Where a lead lies on the print, in its mm, and from when to when, in the ECG's seconds."""

    lead: str
    row: Count
    x: float
    top: float
    start_s: float
    end_s: float
    first: bool = Field(description="of its row")


class ShownAnswer(_Padded):
    """`revision` and `answer`: what stands of the rater's, 0 and null where nothing does."""

    presentation: PresentationId
    position: Count
    label: LabelAnswer
    revision: Count
    answer: Single | Pair | None
    prints: list[str] = Field(description="one SVG, or a pair's two; 1 user unit to the millimetre")
    strips: list[StripAnswer]


class CreatedAnswer(_Answer):
    study: Id


class InvitedAnswer(_Answer):
    rater: Id
    token: str = Field(description="told in this answer alone: the link is /rate#TOKEN")


class RevokedAnswer(_Answer):
    revoked: bool = Field(description="whether there was such a link to end")


class ClosedAnswer(_Answer):
    closed: Id


class GeneratorListed(BaseModel):
    """What a study can be made of here; `source` is what exports and reports call it."""

    source: str
    statements: list[str]


class RaterListed(BaseModel):
    id: Id
    number: Count
    name: str
    simulated: bool
    created: datetime
    revoked: datetime | None
    answered: Count
    total: Count


class StudyListed(BaseModel):
    id: Id
    name: str
    mode: Mode
    seed: Count
    fs: float
    created: datetime
    closed: datetime | None
    labels: dict[str, int]
    generated: dict[str, int]
    real: Count
    repeats: float
    sources: list[str]
    raters: list[RaterListed]


class ListAnswer(_Answer):
    generators: dict[str, GeneratorListed]
    most: Count = Field(description="ECGs of a study that is made in a request")
    studies: list[StudyListed]
