"""FHIR's SampledData, both ways: when samples were taken, in which unit, and their text.

R4 has `period` (ms) where R5 has `interval` and `intervalUnit`; everything else is the same. A
value is origin + factor x sample; `E` (error), `U` (above the upper limit) and `L` (below the lower
one) stand where no value is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import orjson

from ecg.errors import UnreadableError, UnservableError
from ecg.record import VOLTAGES

UCUM = "http://unitsofmeasure.org"
MAX_STRING = 1_048_576  # characters, FHIR's limit
CHUNK = 262_144  # characters of samples that are parsed at a time
_TO_MILLIVOLTS = {
    **VOLTAGES,
    "millivolt": 1.0,
    "millivolts": 1.0,
    "microvolt": 1e-3,
    "microvolts": 1e-3,
    "266418": 1.0,  # MDC_DIM_MILLI_VOLT
    "mdc_dim_milli_volt": 1.0,
    "266419": 1e-3,  # MDC_DIM_MICRO_VOLT
    "mdc_dim_micro_volt": 1e-3,
}
_TO_MILLISECONDS = {
    "ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4
}  # fmt: skip
# The last two are no FHIR, but are sent.
_NO_SAMPLE: dict[str, str] = dict.fromkeys(("E", "U", "L", "NaN", "nan"), "null")
_SPACE = re.compile(r"\s")


def text_of(data: dict[str, Any]) -> str:
    text = data.get("data")
    return text if isinstance(text, str) else ""


def read_fs(data: dict[str, Any], hint: str | None) -> float | str:
    """Hz: of `period`, or of `interval` and `intervalUnit`, or else the hint.
    Errors: UnservableError."""
    if data.get("offsets") is not None:
        raise UnservableError("samples at irregular times are not read; send interval", "offsets")
    given = [
        (value, unit, name)
        for name, unit in (("period", "ms"), ("interval", data.get("intervalUnit")))
        if (value := _number(data, name)) is not None
    ]
    if not given:
        if hint is not None:
            return hint
        raise UnservableError("is missing (R4), or interval and intervalUnit (R5)", "period")
    rates = []
    for value, unit, name in given:
        factor = _TO_MILLISECONDS.get(unit) if isinstance(unit, str) else None
        if factor is None:
            raise UnservableError("must be ns, us, ms, s or min: a time", "intervalUnit")
        if not value > 0:
            raise UnservableError("must be positive", name)
        rates.append(_whole_hertz(value, 1000 / factor))
    if max(rates) > 1.001 * min(rates):
        raise UnservableError("contradicts interval and intervalUnit", "period")
    return rates[0]


def read_millivolts(
    data: dict[str, Any], n_dimensions: int, other_units: tuple[object, ...]
) -> np.ndarray:
    """Samples as float32 mV [dimension, time], NaN where there is none.

    Args:
        other_units: where to look for the unit after `origin`, which should have it.
    Errors: UnservableError, UnreadableError.
    """
    if data.get("codeMap") is not None:
        raise UnservableError("codes for samples are not read; send numbers, E, U, L", "codeMap")
    origin = data.get("origin")
    origin = origin if isinstance(origin, dict) else {}
    zero = _number(origin, "value", "origin.") or 0.0
    factor = _number(data, "factor")
    factor = 1.0 if factor is None else factor
    if factor == 0:
        raise UnservableError("is 0, which leaves nothing of the samples", "factor")
    to_mv = _unit((origin.get("code"), origin.get("unit"), *other_units))
    parts = []
    for values in _numbers(text_of(data)):
        with np.errstate(over="ignore", invalid="ignore"):
            parts.append(((values * factor + zero) * to_mv).astype(np.float32))
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(values) % n_dimensions:
        raise UnreadableError(f"holds no whole number of {n_dimensions} dimensions", "data")
    return values.reshape(-1, n_dimensions).T


def write_sampled(
    row: np.ndarray, fs: float, version: Literal["R4", "R5"], resolution_mv: float
) -> dict[str, Any]:
    """A lead in mV as whole steps of `resolution_mv`, `E` for what is missing.
    Errors: UnservableError where it does not fit into a FHIR string."""
    ms = _plain(1000 / fs)
    return {
        "origin": {"value": 0, "unit": "uV", "system": UCUM, "code": "uV"},
        **({"period": ms} if version == "R4" else {"interval": ms, "intervalUnit": "ms"}),
        "factor": _plain(1000 * resolution_mv),
        "dimensions": 1,
        "data": _written(row, resolution_mv),
    }


def _whole_hertz(period: float, per_second: float) -> float:
    """The frequency of a period; a whole one where the period is a whole one's, rounded to the
    digits that it was sent with: 2.778 ms is 360 Hz."""
    fs = per_second / period
    whole = float(round(fs)) if fs < 1e9 else 0.0
    if whole and abs(fs - whole) < 2e-4 * whole:
        digits = -int(Decimal(repr(period)).as_tuple().exponent)
        if round(per_second / whole, digits) == period:
            return whole
    return fs


def _unit(candidates: tuple[object, ...]) -> float:
    """What makes mV of the first known unit; a code comes before words."""
    given = [c for c in candidates if isinstance(c, str) and c.strip()]
    if not given:
        raise UnservableError("is missing: say mV or uV (UCUM), or ?units= in the query", "origin")
    for unit in given:
        if (factor := _TO_MILLIVOLTS.get(unit.strip().lower())) is not None:
            return factor
    raise UnservableError("is not in V, mV, uV or nV", "origin")


def _numbers(text: str) -> Iterator[np.ndarray]:
    """The samples of `data`, some at a time, as float64. A FHIR decimal is a JSON number."""
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + CHUNK)
        end = space.start() if space else len(text)
        words = text[start:end].split()
        start = end
        if not words:
            continue
        line = ",".join(words)
        if any(letter in line for letter in "EULn"):
            line = ",".join(_NO_SAMPLE.get(word, word) for word in words)
        try:
            values = orjson.loads(f"[{line}]")
            if len(values) != len(words) or set(map(type, values)) - {int, float, type(None)}:
                raise ValueError
        except ValueError:
            raise UnreadableError(
                "holds something other than decimals, E, U and L with spaces between them", "data"
            ) from None
        yield np.array(values, dtype=np.float64)


def _number(item: dict[str, Any], name: str, outer: str = "") -> float | None:
    """A decimal, which some senders write as a string."""
    value = item.get(name)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise UnservableError("is not a number", f"{outer}{name}")
    return number


def _written(row: np.ndarray, resolution_mv: float) -> str:
    steps = np.rint(row.astype(np.float64) / resolution_mv)
    missing = ~np.isfinite(steps)
    steps[missing] = 0
    if np.abs(steps).max(initial=0) >= 2**53:
        raise UnservableError("is out of all proportion to the resolution", "sig")
    words = [str(step) for step in steps.astype(np.int64).tolist()]
    for i in np.flatnonzero(missing).tolist():
        words[i] = "E"
    text = " ".join(words)
    if len(text) > MAX_STRING:
        raise UnservableError(
            f"is too long for FHIR, whose strings end at {MAX_STRING} characters; write it in "
            "pieces",
            "sig",
        )
    return text


def _plain(number: float) -> float | int:
    """Without a `.0`, which says more digits than there are."""
    rounded = round(number, 12)
    return int(rounded) if rounded == int(rounded) else rounded
