"""The answers' shapes, for the OpenAPI page and for clients that generate code from it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from ecg.card import ClassifierCard, GeneratorCard, Sha256

Probability = Annotated[float, Field(ge=0, le=1)]
RequestId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class ModelName(BaseModel):
    name: str
    version: str
    sha256: Sha256


class QualityReason(BaseModel):
    code: str
    leads: list[str]
    detail: str


class QualityAnswer(BaseModel):
    status: Literal["acceptable", "poor", "unusable"]
    reasons: list[QualityReason]
    score: float | None


class AtrialSubstrate(BaseModel):
    status: Literal["normal", "abnormal", "abstained"]
    probability: Probability | None
    threshold: Probability


class StatementAnswer(BaseModel):
    code: str
    description: str
    probability: Probability | None
    threshold: Probability
    present: bool | None


class SegmentAnswer(BaseModel):
    """`af`: the probability of AFIB, where the record has a burden."""

    start_s: float
    end_s: float
    probability: Probability | None
    af: Probability | None = None


class EpisodeAnswer(BaseModel):
    start_s: float
    end_s: float


class AfBurdenAnswer(BaseModel):
    """Of records longer than a segment. `share`: of `analysed_s`, null where that is 0; `brief_s`:
    AF that lasted less than an episode must, which is not counted."""

    share: float | None
    af_s: float
    analysed_s: float
    brief_s: float
    longest_s: float
    episodes: list[EpisodeAnswer]
    note: str


class ExplanationCheck(BaseModel):
    share: float = Field(description="of all windows that the check flattens")
    probability: Probability = Field(description="of the segment as it came")
    without_named: float = Field(description="without the share that matters most for `toward`")
    without_random: float = Field(description="without as many at random, the mean of several")


class ExplanationAnswer(BaseModel):
    method: str
    segment: int = Field(description="which of `segments`: the one that decides the record")
    start_s: float
    end_s: float
    window_s: float
    leads: list[str] = Field(description="the rows of `importance`: the leads that the model reads")
    importance: list[list[float]] = Field(
        description="[lead][window], a share of `scale`: at most 1 in size; above 0 raised the "
        "atrial probability"
    )
    scale: float = Field(description="the largest change of the atrial log odds by one window")
    toward: Literal["normal", "abnormal"] = Field(description="the segment's own answer")
    check: ExplanationCheck
    note: str


class RecordAnswer(BaseModel):
    record_id: str | None
    fs: float
    leads: list[str]
    ignored_channels: list[str]
    duration_s: float
    quality: QualityAnswer
    atrial_substrate: AtrialSubstrate
    statements: list[StatementAnswer]
    segments: list[SegmentAnswer]
    af_burden: AfBurdenAnswer | None = None
    explanation: ExplanationAnswer | None = Field(
        default=None, description="with `explain=1` alone; null where the model abstained"
    )


class ClassifyAnswer(BaseModel):
    request_id: RequestId
    research_use_only: Literal[True]
    model: ModelName
    results: list[RecordAnswer]


class SynthesizeLabels(BaseModel):
    atrial_substrate: Literal["normal", "abnormal"] | None
    statements: list[str]
    age: float | None
    sex: Literal["male", "female"] | None
    heart_rate: float | None
    complete: bool


class SynthesizeAnswer(BaseModel):
    request_id: RequestId
    research_use_only: Literal[True]
    synthetic: Literal[True]
    model: ModelName
    seed: int
    fs: float
    units: Literal["mV"]
    leads: list[str]
    labels: SynthesizeLabels
    sig: list[list[list[float]]]


class _Running(BaseModel):
    served_as: str = Field(
        description="what `?model=` chooses it by; the first of a task answers where none is named"
    )
    device: str = Field(description="where the model runs")
    descriptions: dict[str, str] = Field(description="its statements in words")


class ClassifierAnswer(_Running, ClassifierCard):
    pass


class GeneratorAnswer(_Running, GeneratorCard):
    pass


class ModelsAnswer(BaseModel):
    models: list[Annotated[ClassifierAnswer | GeneratorAnswer, Field(discriminator="task")]]


class ProblemAnswer(BaseModel):
    """RFC 9457."""

    type: str = Field(pattern="^/problems/[a-z-]+$", description="stable: one for each kind")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what is wrong, where, and what would be right")
    request_id: RequestId
