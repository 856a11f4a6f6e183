"""JSON: one record, or several under `records`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from ecg.errors import EcgError, TooLargeError, UnreadableError, UnservableError
from ecg.formats.source import File, Hints, check_count
from ecg.limits import Limits
from ecg.record import Meta, Record, make_record

MAX_RECORD_ID = 256


def matches(file: File) -> bool:
    start = file.content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return start in (b"{", b"[")


def claims(file: File) -> bool:
    return file.name.lower().endswith(".json") or "json" in file.media_type


def read(file: File, hints: Hints) -> list[Record]:
    check_text(file.content, hints.limits)
    try:
        body = orjson.loads(file.content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise UnreadableError(
            f"not valid JSON at line {error.lineno}, column {error.colno} "
            "(NaN is not JSON: write null for a missing sample)"
        ) from None
    if not isinstance(body, dict):
        raise UnservableError('must be an object: {"sig": …, "fs": …, "leads": …, "units": …}')
    if "records" not in body:
        return [_record(body, hints)]
    items = body["records"]
    if not isinstance(items, list) or not items:
        raise UnservableError("must be a list of at least one record", "records")
    check_count(len(items), hints.limits)
    records: list[Record] = []
    for i, item in enumerate(items):
        try:
            records.append(_record(item, hints))
        except EcgError as error:
            raise error.within(f"records[{i}]") from None
        hints = replace(hints, limits=hints.limits.less(records[-1].n_bytes))
    return records


def check_text(content: bytes, limits: Limits) -> None:
    """What the text would be as objects, which take many times its bytes; counted without parsing
    it. How deep it is nested is bounded by the parser itself. Errors: TooLargeError."""
    n_elements = content.count(b"[") + content.count(b"{") + content.count(b'"') // 2
    if n_elements > limits.max_json_elements:
        raise TooLargeError(
            f"JSON of more than {limits.max_json_elements:,} objects, lists and strings"
        )
    if content.count(b",") > limits.max_numbers:
        raise TooLargeError(
            f"JSON of more than {limits.max_numbers:,} numbers; send NPZ or a device's file"
        )


def _record(item: Any, hints: Hints) -> Record:
    if not isinstance(item, dict):
        raise UnservableError("must be an object with sig, fs, leads and units")
    record_id = item.get("record_id")
    if record_id is not None and not (
        isinstance(record_id, str) and len(record_id) <= MAX_RECORD_ID
    ):
        raise UnservableError(
            f"must be a string of at most {MAX_RECORD_ID} characters", "record_id"
        )
    leads = item.get("leads", hints.leads)
    if leads is not None and not isinstance(leads, list | tuple):
        raise UnservableError("must be a list of lead names", "leads")
    fs = item.get("fs", hints.fs)
    if isinstance(item.get("fs"), str):
        raise UnservableError("must be a number in Hz, not a string", "fs")
    synthetic = item.get("synthetic")
    if not isinstance(synthetic, bool | None):
        raise UnservableError("must be true or false", "synthetic")
    meta = Meta(record_id, synthetic=bool(synthetic))
    units = item.get("units", hints.units)
    return make_record(_samples(item.get("sig")), fs, leads, units, meta, hints.limits)


def _samples(rows: Any) -> np.ndarray:
    """`sig` as [lead, time] float64; null is a missing sample; anything but numbers is refused."""
    if rows is None:
        raise UnservableError("is missing: samples as [lead][time]", "sig")
    if not isinstance(rows, list) or not rows or not all(isinstance(r, list) for r in rows):
        raise UnservableError("must be [lead][time]: a list of lists of numbers", "sig")
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise UnservableError(
                f"has {len(row)} samples, but sig[0] has {len(rows[0])}", f"sig[{i}]"
            )
    for i, row in enumerate(rows):
        kinds = set(map(type, row)) - {int, float, type(None)}
        if kinds:
            raise UnservableError("holds something that is not a number", f"sig[{i}]")
    return np.array(rows, dtype=np.float64)
