"""Ways for a patient's data to get out of a service: what is found, and what of it is hushed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from ecg.errors import UnservableError
from service import database, logs, metrics
from service.audit.trail import record_now
from service.problems import Problem
from service.settings import Settings

KIND, SECRET = "x-leak", "x-secret"
_held: list[Any] = []


def _detail(secret: str) -> None:
    raise UnservableError(secret)


def _header(secret: str) -> None:
    raise Problem(422, "leak", "A leak", "in a header", {"X-Leaked": secret.encode().hex()})


def _file(secret: str) -> None:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(secret.encode("utf-16"))


def _named_file(secret: str) -> None:
    with tempfile.NamedTemporaryFile(delete=False, prefix=secret.split(";")[1].strip()):
        pass


def _nameless_file(secret: str) -> None:
    file = tempfile.TemporaryFile()
    file.write(secret.encode())
    file.flush()
    _held.append(file)


def _in_memory(secret: str) -> None:
    file = os.memfd_create("leak")
    os.write(file, secret.encode())


def _row(secret: str) -> None:
    engine = database.connect(Settings().database_url)
    record_now(engine, "leak", about=secret)
    _held.append(engine)  # so that it stays in the write-ahead log


def _traceback(secret: str) -> None:
    try:
        raise ValueError(secret)
    except ValueError:
        traceback.print_exc()


LEAKS: dict[str, Callable[[str], None]] = {
    "a log line": lambda secret: logs.event("request", note=secret),
    "a log line in base64": lambda s: logs.event("x", note=base64.b64encode(s.encode()).decode()),
    "a print": lambda secret: print(secret, flush=True),
    "a metric's label": lambda secret: metrics.PROBLEMS.labels("classify", secret).inc(),
    "an error's detail": _detail,
    "a header": _header,
    "a file left behind": _file,
    "a file's name": _named_file,
    "a deleted file held open": _nameless_file,
    "a file in memory": _in_memory,
    "a row": _row,
    "a traceback": _traceback,
}


async def _fail(secret: str) -> None:
    raise RuntimeError(secret)


def _thread(secret: str) -> None:
    def fail() -> None:
        raise RuntimeError(secret)

    threading.Thread(target=fail, name=secret).start()


def _logged(secret: str) -> None:
    for name in ("wfdb", "pydicom", "uvicorn.error", "bentoml", "asyncio", "root.of.nothing"):
        logger = logging.getLogger(name)
        logger.error("cannot read %s", secret, extra={"patient": secret})
        with contextlib.suppress(ValueError):
            try:
                raise ValueError(secret)
            except ValueError:
                logger.exception("failed with %r", secret, stack_info=True)
                raise


def _last_resort(secret: str) -> None:
    logger = logging.getLogger("without.handlers")
    logger.propagate = False
    logger.critical(secret)
    logging.getLogger("wfdb").error("%d is not a number", secret)  # the handler fails on it


class _Falling:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __del__(self) -> None:
        raise RuntimeError(self.secret)


def _unhandled(secret: str) -> None:
    raise SystemError(secret)  # `answer` logs it as a failure


def _hook(secret: str) -> None:
    try:
        raise RuntimeError(secret)
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)


def _task(secret: str) -> None:
    asyncio.get_running_loop().create_task(_fail(secret), name=secret)


def _callback(secret: str) -> None:
    def fail(secret: str) -> None:
        raise RuntimeError(secret)

    asyncio.get_running_loop().call_soon(fail, secret)


# What of others' words must not come through, and what the log says instead.
HUSHED: dict[str, tuple[Callable[[str], None], str]] = {
    "what libraries log": (_logged, '"logger":"pydicom"'),
    "what nobody handles": (_last_resort, '"logger":"without.handlers"'),
    "a warning": (lambda secret: warnings.warn(secret, stacklevel=1), '"event":"warning"'),
    "an error in a request": (_unhandled, '"error":"SystemError"'),
    "an error in a task": (_task, '"logger":"asyncio"'),
    "an error in a callback": (_callback, '"logger":"asyncio"'),
    "an error in a thread": (_thread, '"what":"thread"'),
    "an error while collecting": (lambda s: _Falling(s) and None, '"what":"unraisable"'),
    "an error at the top": (_hook, '"what":"process"'),
}
OUTSIDE = "an error in the application", '"logger":"uvicorn.error"'
