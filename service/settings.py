"""Every limit and choice of the service, in one place: from the environment, `ECG_…`, and from the
TOML file that `ECG_SETTINGS` names, where the environment does not say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ecg.store import cuda_offered

MIB = 1024 * 1024
HOME = Path(__file__).resolve().parent.parent
Switch = Literal["auto", "on", "off"]  # auto: on where the service can be reached from elsewhere


def default_workers() -> int:
    """One for each of the first eight cores, since much of a request is Python; one for a GPU,
    whose batches are better the more requests come together."""
    return 1 if cuda_offered() else min(8, os.cpu_count() or 1)


class Settings(BaseSettings):
    """`ECG_MAX_BODY_MIB=128` in the environment sets `max_body_mib`, and so on."""

    model_config = SettingsConfigDict(env_prefix="ECG_", frozen=True, extra="forbid")

    models_store: Path = HOME / "models_store"
    classifier: str = "prednet"
    generator: str = "ldm"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(
        default_factory=default_workers,
        ge=1,
        description="processes, each with the models loaded",
    )

    max_body_mib: float = Field(default=64, gt=0)
    max_unpacked_mib: float = Field(default=512, gt=0)
    timeout_s: float = Field(default=30, gt=0, description="from a request's arrival to its answer")
    timeout_per_mib_s: float = Field(
        default=0.5, ge=0, description="more, for each MiB of the body that has come"
    )
    timeout_per_hour_s: float = Field(
        default=5, ge=0, description="more, for each hour of signal in it"
    )

    engine_threads: int = Field(
        default=os.cpu_count() or 1, ge=1, description="parallel model runs"
    )
    reader_threads: int = Field(
        default=os.cpu_count() or 1, ge=1, description="bodies read in parallel"
    )
    max_batch: int = Field(default=32, ge=1, description="segments a model run")
    max_wait_ms: float = Field(default=2, ge=0, description="that a batch may wait to fill up")
    max_places: int = Field(
        default=32, ge=1, description="rows of a denoiser run, both of a guided ECG's counted"
    )
    max_waiting: int = Field(default=512, ge=256, description="ECGs that may wait before 429")
    max_queue: int = Field(default=4096, ge=1, description="segments that may wait before 429")

    max_explained: int = Field(default=4, ge=0, description="records a request, others 422")
    max_here: int = Field(
        default=8,
        ge=0,
        description="segments that the event loop runs itself, on a CPU, where nothing else runs",
    )
    max_delay_s: float = Field(
        default=0.5, gt=0, description="that a segment may wait, estimated, before 429"
    )

    access: Switch = Field(default="auto", description="keys or tokens are asked for")
    audit: Switch = Field(default="auto", description="answers are recorded before they are sent")
    database_url: str = Field(
        default=f"sqlite:///{HOME}/state/ecg-direnet.sqlite",
        repr=False,
        description="of the keys and the audit; sqlite:///PATH or postgresql://…",
    )

    traces: str = Field(
        default="",
        pattern="^(https?://.+)?$",
        repr=False,
        description="of an OpenTelemetry collector, OTLP over HTTP: http://collector:4318",
    )
    traces_ratio: float = Field(
        default=0.1, ge=0, le=1, description="of the requests, where the client does not say"
    )

    access_log: bool = True

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get("ECG_SETTINGS")
        if file and not Path(file).is_file():
            raise SystemExit(f"ECG_SETTINGS names {file}, which is not a file")
        named = (TomlConfigSettingsSource(settings_cls, file),) if file else ()
        return (init_settings, env_settings, *named)

    @property
    def max_body(self) -> int:
        return int(self.max_body_mib * MIB)

    @property
    def max_unpacked(self) -> int:
        return int(self.max_unpacked_mib * MIB)
