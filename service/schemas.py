"""The answers' shapes, for the OpenAPI page and for clients that generate code from it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class ModelName(BaseModel):
    name: str
    version: str
    sha256: str


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
    probability: float | None
    threshold: float


class StatementAnswer(BaseModel):
    code: str
    description: str
    probability: float | None
    threshold: float
    present: bool | None


class SegmentAnswer(BaseModel):
    """`af`: the probability of AFIB, where the record has a burden."""

    start_s: float
    end_s: float
    probability: float | None
    af: float | None = None


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
    probability: float = Field(description="of the segment as it came")
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
    request_id: str
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
    request_id: str
    research_use_only: Literal[True]
    synthetic: Literal[True]
    model: ModelName
    seed: int
    fs: float
    units: Literal["mV"]
    leads: list[str]
    labels: SynthesizeLabels
    sig: list[list[list[float]]]


class ProblemAnswer(BaseModel):
    type: str
    title: str
    status: int
    detail: str
    request_id: str
