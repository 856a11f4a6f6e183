"""Every limit and choice of the service, in one place: from the environment, `ECG_…`, and from the
TOML file that `ECG_SETTINGS` names, where the environment does not say."""

from __future__ import annotations

import os
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ecg.formats.source import MOST_FILES
from ecg.limits import LIMITS, MIB, Limits
from ecg.store import cuda_offered

HOME = Path(__file__).resolve().parent.parent
Switch = Literal["auto", "on", "off"]  # auto: on where the service can be reached from elsewhere
Offer = Literal["key", "open", "closed", "moved"]  # key: where keys are asked for


def default_workers() -> int:
    """One for each of the first eight cores, since much of a request is Python; one for a GPU,
    whose batches are better the more requests come together."""
    return 1 if cuda_offered() else min(8, os.cpu_count() or 1)


class Settings(BaseSettings):
    """`ECG_MAX_BODY_MIB=128` in the environment sets `max_body_mib`, and so on."""

    model_config = SettingsConfigDict(env_prefix="ECG_", frozen=True, extra="forbid")

    models_store: Path = HOME / "models_store"
    classifier: str = Field(
        default="prednet",
        description="folders of the store, with commas between; the first answers where `?model=` "
        "names none",
    )
    generator: str = Field(default="ldm", description="as `classifier`")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(
        default_factory=default_workers,
        ge=1,
        description="processes, each with the models loaded",
    )

    max_body_mib: float = Field(default=64, gt=0)
    max_unpacked_mib: float = Field(
        default=LIMITS.max_unpacked / MIB,
        gt=0,
        description="what a request's files unpack to, and their samples as float32",
    )
    max_parts: int = Field(default=256, ge=1, description="parts of a multipart body")
    max_files: int = Field(
        default=LIMITS.max_files, ge=1, le=MOST_FILES, description="files in a zip"
    )
    max_records: int = Field(default=LIMITS.max_records, ge=1, description="records a request")
    max_channels: int = Field(
        default=LIMITS.max_channels, ge=1, description="channels a record, leads among them"
    )
    min_fs: float = Field(default=LIMITS.min_fs, gt=0, description="Hz")
    max_fs: float = Field(default=LIMITS.max_fs, gt=0, description="Hz")
    min_duration_s: float = Field(default=LIMITS.min_duration_s, gt=0)
    max_duration_s: float = Field(default=LIMITS.max_duration_s, gt=0)
    max_depth: int = Field(
        default=LIMITS.max_depth,
        ge=8,
        le=200,
        description="of XML elements and DICOM sequences within each other",
    )
    max_numbers: int = Field(
        default=LIMITS.max_numbers, ge=1, description="numbers of a JSON body, 32 bytes each"
    )
    max_json_elements: int = Field(
        default=LIMITS.max_json_elements, ge=1, description="objects, lists and strings"
    )
    max_xml_elements: int = Field(
        default=LIMITS.max_xml_elements, ge=1, description="elements and attributes"
    )
    max_dicom_elements: int = Field(
        default=LIMITS.max_dicom_elements, ge=1, description="elements and items"
    )
    max_head_kib: float = Field(
        default=64, ge=1, description="of a request's line and header fields, others 431"
    )
    timeout_head_s: float = Field(default=20, gt=0, description="for these to come, else 408")
    timeout_s: float = Field(default=30, gt=0, description="from a request's arrival to its answer")
    timeout_per_mib_s: float = Field(
        default=0.5, ge=0, description="more, for each MiB of the body that has come"
    )
    timeout_per_hour_s: float = Field(
        default=5, ge=0, description="more, for each hour of signal in it"
    )

    drain_s: float = Field(
        default=0,
        ge=0,
        description="that a worker told to stop goes on answering, not ready: longer than those "
        "who send it requests take to notice",
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

    audit_key_file: Path | None = Field(
        default=None, description="a key a line, the newest last: the audit's hashes need it"
    )
    audit_when_away: Literal["refuse", "spool"] = Field(
        default="refuse", description="what answers do while the audit's database is away"
    )
    audit_spool: Path = Field(default=HOME / "state" / "spool", description="a folder that stays")
    keys_cache_s: float = Field(
        default=5, gt=0, description="within which a revoked key is refused, by every worker"
    )
    per_minute: int | None = Field(
        default=None, ge=1, description="requests of a caller whose key does not say, before 429"
    )
    at_once: int | None = Field(
        default=64, ge=1, description="requests of a caller whose key does not say, before 429"
    )
    failures_per_minute: int = Field(
        default=60, ge=1, description="bad keys and tokens of an address, before 429"
    )
    session_minutes: float = Field(default=60, gt=0, description="that a browser stays signed in")
    session_secret: str | None = Field(
        default=None,
        min_length=32,
        repr=False,
        description="signs the sessions; the same for several replicas, else each has its own",
    )
    oidc_issuer: str | None = Field(
        default=None, max_length=150, description="whose tokens are taken; https://…"
    )
    oidc_audience: str | None = Field(default=None, description="that a token must be made for")
    oidc_jwks_url: str | None = Field(
        default=None, description="of the issuer's keys; else its discovery document says"
    )
    oidc_scopes_claim: str = Field(
        default="scope", description="holds the scopes or roles; dots lead into nested claims"
    )
    oidc_scopes: dict[str, frozenset[str]] = Field(
        default={},
        description="what each value of that claim may ask; where nothing is said, the values are "
        "the scopes themselves",
    )
    oidc_leeway_s: float = Field(default=30, ge=0, le=300, description="that clocks may differ")
    metrics: Offer = "key"
    docs: Offer = "key"
    operator_port: int | None = Field(
        default=None, ge=1, le=65535, description="of what is `moved`, where no key is asked for"
    )
    operator_host: str = "127.0.0.1"
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
    library_messages: bool = Field(
        default=False,
        description="what other libraries log in words, which may quote a patient's values; "
        "for developers, never where patients' ECGs are sent",
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if "moved" in (self.metrics, self.docs) and self.operator_port is None:
            raise ValueError("`moved` needs an operator_port")
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise ValueError("oidc_issuer needs an oidc_audience")
        return self

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
    def classifiers(self) -> tuple[str, ...]:
        return _names(self.classifier)

    @property
    def generators(self) -> tuple[str, ...]:
        return _names(self.generator)

    @property
    def max_body(self) -> int:
        return int(self.max_body_mib * MIB)

    @property
    def max_head(self) -> int:
        return int(self.max_head_kib * 1024)

    @cached_property
    def limits(self) -> Limits:
        """What readers keep to."""
        named = {f.name: getattr(self, f.name) for f in fields(Limits) if f.name != "max_unpacked"}
        return Limits(max_unpacked=int(self.max_unpacked_mib * MIB), **named)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for setting in ("classifier", "generator"):
            names = _names(getattr(self, setting))
            if "" in names or len(set(names)) < len(names):
                raise ValueError(f"{setting} must be names with commas between, each of them once")
        for least, most in (("min_fs", "max_fs"), ("min_duration_s", "max_duration_s")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} is more than {most}")
        return self


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(","))
