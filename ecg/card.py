"""The model card: the contract that travels with the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecg.decision import Calibration, RecordRule
from ecg.errors import StoreError
from ecg.prepare import Preparation
from ecg.statements import STATEMENTS

Interval = tuple[float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(_Strict):
    """A measured figure with its bootstrap 95% interval, where one was drawn."""

    name: str
    value: float
    interval: Interval | None = None
    n: int
    n_positive: int | None = None
    data: str
    leads: str


class TrainingData(_Strict):
    name: str
    records: int
    licence: str
    citation: str


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Card(_Strict):
    """What every model's card says."""

    format: Literal[1] = 1
    name: str
    version: str
    created: str
    architecture: str
    n_parameters: int
    fs: float
    n_samples: int
    leads: tuple[str, ...]
    units: Literal["mV"] = "mV"
    statements: tuple[str, ...]
    preparation: Preparation
    chosen_on: str
    metrics: tuple[Metric, ...]
    training_data: tuple[TrainingData, ...]
    licence: str
    intended_use: str
    not_for: str
    limitations: tuple[str, ...]

    @model_validator(mode="after")
    def _known_statements(self) -> Self:
        unknown = [code for code in self.statements if code not in STATEMENTS]
        if unknown:
            raise ValueError(f"unknown statements {unknown}")
        if (self.fs, self.n_samples) != (self.preparation.fs, self.preparation.n_samples):
            raise ValueError("fs and n_samples must be the preparation's")
        return self


class ClassifierCard(_Card):
    """Everything that the service must know of a classifier, and a reader should.

    Outputs of the network, in order: the atrial substrate's logit, then one a statement. A
    statement of `implying_statements` makes the substrate abnormal by definition.
    """

    task: Literal["classification"] = "classification"
    sha256: Sha256
    implying_statements: tuple[str, ...]
    calibration: Annotated[tuple[Calibration, ...], Field(min_length=1)]
    record_rule: RecordRule

    @property
    def implying(self) -> list[int]:
        """The outputs that imply an abnormal atrial substrate."""
        return [1 + self.statements.index(code) for code in self.implying_statements]

    @model_validator(mode="after")
    def _consistent(self) -> ClassifierCard:
        if not set(self.implying_statements) <= set(self.statements):
            raise ValueError("implying_statements must be among the statements")
        n_outputs = 1 + len(self.statements)
        for c in self.calibration:
            if not len(c.slope) == len(c.offset) == len(c.threshold) == n_outputs:
                raise ValueError(f"calibration {c.lead_set!r} must have {n_outputs} entries")
            if any(c.threshold[i] < c.threshold[0] for i in self.implying):
                raise ValueError(
                    f"calibration {c.lead_set!r}: a threshold contradicts the substrate's"
                )
        return self


class FlowMap(_Strict):
    """That the network jumps between `n_levels` noise levels and 0, told the guidance scale, which
    lies in `guidance`; the numbers of steps are those that divide the levels."""

    n_levels: Annotated[int, Field(ge=1)]
    guidance: Interval

    @property
    def num_steps(self) -> tuple[int, ...]:
        return tuple(k for k in range(1, self.n_levels + 1) if self.n_levels % k == 0)


class Diffusion(_Strict):
    """Noise levels of the sampler, and its defaults (EDM's names). Guidance applies at noise levels
    within `guidance_interval`; a flow map has it in itself."""

    sigma_data: float
    sigma_min: float
    sigma_max: float
    rho: float
    num_steps: int
    guidance_scale: float
    guidance_interval: Interval
    flow_map: FlowMap | None = None


class GeneratorCard(_Card):
    """Everything that the service must know of a latent generator: `latents` is the shape of one
    row, channels by time; the denoiser's labels are those of `ecg.labels`, over `statements`."""

    task: Literal["generation"] = "generation"
    sha256: Sha256
    decoder_sha256: Sha256
    latents: tuple[int, int]
    diffusion: Diffusion


Card = TypeVar("Card", bound=_Card)


def read_card(path: Path, kind: type[Card]) -> Card:
    """The card at `path`, or StoreError that says what in it is wrong."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"no card at {path}") from None
    except ValidationError as error:
        raise StoreError(f"{path} is not a valid card: {error}") from error
