"""Structured logs: a JSON line an event, with request ids and without patient data.

What is logged is listed here, field by field; a path is the route's, never the URL's, and a failure
is its kind and place, never its message, which may quote a value.

Other libraries know nothing of patients: what they log, warn of and raise may quote a value of a
file. `hush` leaves of each only who said it, how urgent it is and where it was said, whichever
handler it reaches. A developer gets the words back with ECG_LIBRARY_MESSAGES=1.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import sys
import threading
import traceback
import uuid
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

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
    event("failure", request_id=request_id, error=type(error).__name__, where=_places(error))


def hush() -> None:
    """From now on nothing in this process quotes a value: no other logger, no warning, and no
    exception that nobody caught. Memory is in no core file either."""
    logging.setLogRecordFactory(_Wordless)
    # BentoML switches off every logger that it does not know; failures of tasks go to this one.
    logging.getLogger("asyncio").disabled = False
    # The last resort of a logger without handlers has a handler of its own, and a broken handler
    # prints the record that it could not.
    logging.raiseExceptions = False
    warnings.showwarning = _warned
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _fell("thread", args.exc_value)
    sys.unraisablehook = lambda args: _fell("unraisable", args.exc_value)
    leave_no_core()


def leave_no_core() -> None:
    """Of this process and those that it starts. A limit of 1 byte is too small for any file, and
    tells the kernel to start no program that collects cores (core(5)); 0 does not stop that."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))


class _Wordless(logging.LogRecord):
    """A record of another library's without its words, its arguments and its traceback."""

    def __init__(self, name: str, level: int, *args: Any, **more: Any) -> None:
        super().__init__(name, level, *args, **more)
        if name == _log.name:
            return
        error = self.exc_info[1] if self.exc_info else None
        said: dict[str, object] = {
            "event": "library",
            "logger": name,
            "level": self.levelname,
            "where": [f"{self.filename}:{self.lineno} {self.funcName}"],
        }
        if error is not None:
            said |= {"error": type(error).__name__, "where": _places(error)}
        self.msg, self.args = orjson.dumps(said).decode(), None
        self.exc_info = self.exc_text = self.stack_info = None


def _places(error: BaseException) -> list[str]:
    """Where it was raised, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]


def _fell(what: str, error: BaseException | None) -> None:
    """An exception that nobody caught."""
    if error is not None and not isinstance(error, SystemExit | KeyboardInterrupt):
        event("failure", what=what, error=type(error).__name__, where=_places(error))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _fell("process", error)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    event("warning", kind=category.__name__, where=[f"{Path(filename).name}:{lineno}"])
