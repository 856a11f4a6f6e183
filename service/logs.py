"""Structured logs: a JSON line an event, with request ids and without patient data.

What is logged is listed here, field by field; a path is the route's, never the URL's, and a failure
is its kind and place, never its message, which may quote a value.
"""

from __future__ import annotations

import logging
import sys
import traceback
import uuid
from datetime import UTC, datetime
from pathlib import Path

import orjson

_log = logging.getLogger("ecg")


def configure() -> None:
    if not _log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        _log.addHandler(handler)
        _log.setLevel(logging.INFO)
        _log.propagate = False


def new_request_id() -> str:
    return uuid.uuid4().hex


def event(name: str, **fields: object) -> None:
    """Log `fields`, which must hold nothing of a request's content."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    _log.info(orjson.dumps({"time": now, "event": name, **fields}).decode())


def failure(request_id: str, error: BaseException) -> None:
    """An unexpected error: its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[-8:]]
    event("failure", request_id=request_id, error=type(error).__name__, where=where)
