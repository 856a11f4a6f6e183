"""A request for synthetic ECGs -> an order; what was generated -> the answer's format."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ecg.card import GeneratorCard
from ecg.draw import print_png, print_svg
from ecg.errors import UnreadableError, UnservableError
from ecg.formats import dicom
from ecg.generated import Generated, as_csv, as_npz, as_wfdb_zip, implied
from ecg.labels import MAX_AGE, MAX_HEART_RATE, MIN_HEART_RATE, Labels, encode
from ecg.leads import LEADS
from ecg.sampler import SamplerError, course
from ecg.statements import STATEMENTS
from service.inflight import Order

MAX_SEED = 2**53  # every JSON reader keeps it exact
JSON = "application/json"


class SynthesizeRequest(BaseModel):
    """What is asked for; what is left out is not given."""

    model_config = ConfigDict(extra="forbid", strict=True)

    n: int = Field(default=1, ge=1, le=64)
    atrial_substrate: Literal["normal", "abnormal"] | None = None
    statements: list[str] = Field(
        default=[], max_length=len(STATEMENTS), description="those of the model's card"
    )
    age: float | None = Field(default=None, ge=0, le=MAX_AGE)
    sex: Literal["male", "female"] | None = None
    heart_rate: float | None = Field(default=None, ge=MIN_HEART_RATE, le=MAX_HEART_RATE)
    complete: bool = False  # the statements are all there are, rather than some
    seed: int | None = Field(default=None, ge=0, lt=MAX_SEED)
    guidance_scale: float | None = Field(default=None, ge=1, le=10)
    num_steps: int | None = Field(default=None, ge=1, le=64)


def read_request(body: bytes) -> SynthesizeRequest:
    """The request in a JSON body; an empty one asks for nothing in particular.

    Errors: UnreadableError, UnservableError that names the field.
    """
    try:
        return SynthesizeRequest.model_validate(orjson.loads(body) if body.strip() else {})
    except orjson.JSONDecodeError as error:
        raise UnreadableError(
            f"not valid JSON at line {error.lineno}, column {error.colno}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        if first["type"] == "extra_forbidden":  # its name is the client's, and may be anyone's
            known = ", ".join(SynthesizeRequest.model_fields)
            raise UnservableError(f"holds a field other than {known}") from None
        where = ".".join(str(part) for part in first["loc"])
        raise UnservableError(first["msg"], where) from None


def order(request: SynthesizeRequest, card: GeneratorCard) -> tuple[Labels, Order]:
    """The labels, what the statements imply included, and the order. Errors: UnservableError."""
    for i, code in enumerate(request.statements):
        if code not in card.statements:
            raise UnservableError(
                f"is not covered by this model; it covers {', '.join(card.statements)}",
                f"statements[{i}]",
            )
    if request.complete and not request.statements:
        raise UnservableError(
            "says that there are no other statements: name those that there are", "complete"
        )
    given = Labels(
        request.atrial_substrate,
        tuple(dict.fromkeys(request.statements)),
        request.age,
        request.sex,
        request.heart_rate,
        request.complete,
    )
    substrate = implied(given)
    if substrate == "abnormal" and request.atrial_substrate == "normal":
        raise UnservableError(
            "normal contradicts the statements: AFIB, AFLT, LAO/LAE and RAO/RAE are abnormal",
            "atrial_substrate",
        )
    labels = Labels(**{**asdict(given), "atrial_substrate": substrate})
    seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
    asked = Order(
        n=request.n,
        labels=encode(labels, card.statements),
        seed=seed,
        guidance_scale=request.guidance_scale or card.diffusion.guidance_scale,
        num_steps=request.num_steps or card.diffusion.num_steps,
    )
    try:
        course(card.diffusion, asked.num_steps, asked.guidance_scale)
    except SamplerError as error:
        raise UnservableError(error.detail, error.field) from None
    return labels, asked


def as_json(generated: Generated, card: GeneratorCard) -> dict[str, Any]:
    """The JSON answer but for its request id."""
    return {
        "research_use_only": True,
        "synthetic": True,
        "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "seed": generated.seed,
        "fs": generated.fs,
        "units": "mV",
        "leads": LEADS,
        "labels": asdict(generated.labels),
        "sig": np.ascontiguousarray(generated.sig.round(6)),
    }


def _as_png(generated: Generated) -> bytes:
    return print_png(generated.record(0))


def _as_svg(generated: Generated) -> bytes:
    return print_svg(generated.record(0)).encode()


def _as_dicom(generated: Generated) -> bytes:
    return dicom.write(dicom.for_twelve_lead(generated.record(0)))


# Media type -> how the answer is written; JSON is the default and written by the edge.
FORMATS: dict[str, Callable[[Generated], bytes]] = {
    "application/x-npz": as_npz,
    "text/csv": as_csv,
    "image/png": _as_png,
    "image/svg+xml": _as_svg,
    "application/zip": as_wfdb_zip,
    "application/dicom": _as_dicom,
}
OF_ONE = {"image/png": "a picture", "image/svg+xml": "a picture", "application/dicom": "an object"}
