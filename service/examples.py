"""Examples for the OpenAPI page: bodies that are answered, and each problem as it is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from ecg.errors import UnknownFormatError, UnreadableError, UnservableError
from ecg.formats import fhir
from ecg.record import Record
from service import problems
from service.problems import Problem

_FS, _SECONDS, _BEAT_S = 50, 5, 0.8
_ID = "0" * 32


def _beats() -> Record:
    """The shortest that is read: lead II, drawn as five bumps a beat, of nobody's heart."""
    phase = np.arange(_FS * _SECONDS) / _FS % _BEAT_S
    # P, Q, R, S, T: mV, seconds into the beat, width in seconds
    bumps = (
        (0.1, 0.10, 0.03),
        (-0.1, 0.22, 0.012),
        (1.0, 0.26, 0.02),
        (-0.2, 0.30, 0.015),
        (0.25, 0.48, 0.05),
    )
    sig = sum(mv * np.exp(-(((phase - at) / width) ** 2)) for mv, at, width in bumps)
    return Record(np.round(sig, 2)[None].astype(np.float32), float(_FS), ("II",))


_BEATS = _beats()
RECORD: dict[str, Any] = {
    "sig": [[round(mv, 2) for mv in _BEATS.sig[0].tolist()]],
    "fs": _FS,
    "leads": ["II"],
    "units": "mV",
}
OBSERVATION: dict[str, Any] = orjson.loads(fhir.write(_BEATS, "R4", 0.01))
SYNTHESIZE: dict[str, Any] = {
    "n": 1,
    "statements": ["AFIB"],
    "age": 63,
    "sex": "female",
    "heart_rate": 80,
    "seed": 7,
}
_PROBLEMS: dict[str, Problem] = {
    "unreadable": problems.of_error(UnreadableError("not valid JSON at line 1, column 9")),
    "not acceptable": problems.not_acceptable("image/svg+xml, image/png"),
    "too large": problems.too_large(64 * 2**20),
    "unknown format": problems.of_error(
        UnknownFormatError("this is an empty body; send JSON, NPZ, CSV …")
    ),
    "unservable": problems.of_error(
        UnservableError("is missing: give the sampling frequency in Hz, for example 500", "fs")
    ),
    "overloaded": problems.overloaded(1),
    "internal": problems.internal(),
    "late": problems.late(30),
    "no generator": problems.no_generator(),
}


def problems_of(status: int) -> dict[str, Any]:
    """Examples by name, of an answer's `content`."""
    return {
        name: {"value": orjson.loads(bytes(problem.response(_ID).body))}
        for name, problem in _PROBLEMS.items()
        if problem.status == status
    }
