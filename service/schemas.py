"""The answers' shapes, for the OpenAPI page and for clients that generate code from it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


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
    start_s: float
    end_s: float
    probability: float | None


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
