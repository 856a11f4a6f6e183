"""The audit: who asked what, when, of which model, and how it ended; no patient data.

An answer leaves once its row is committed. A refusal of which nothing was read is recorded too, but
a flood of them is summed, so that whoever has no key cannot fill the database either.
`python -m service.audit` verifies, exports and seals what is recorded.
"""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service import database, problems
from service.access import binding
from service.access.caller import caller_of
from service.audit.chain import Chain, Key, new_entry, read_keys
from service.audit.recorder import SUM_S, Alike, Recorder
from service.metrics import AUDIT_ROWS
from service.problems import Problem
from service.settings import Settings

ONE_BY_ONE = 10  # refusals alike, in SUM_S; then they are summed


class Audit:
    """What the edge does with a recorder: one a worker."""

    def __init__(self, recorder: Recorder, models: dict[str, str]) -> None:
        """`models`: the SHA-256 of the one that answers at an endpoint."""
        self._recorder, self._models = recorder, models
        self._refusals: dict[Alike, int] = {}  # since `_since`
        self._since = 0.0

    @classmethod
    async def start(
        cls, settings: Settings, models: dict[str, str], at_once: Callable[[], int]
    ) -> Audit | None:
        """None where the audit is off. `at_once`: as for the recorder."""
        if not wanted(settings):
            return None
        recorder = Recorder(
            database.connect(settings.database_url),
            read_keys(settings.audit_key_file),
            settings.audit_spool,
            settings.audit_when_away == "spool",
            at_once,
        )
        await asyncio.to_thread(recorder.open)
        return cls(recorder, models)

    @property
    def away(self) -> bool:
        return self._recorder.away

    def unready(self) -> Problem | None:
        """What to answer where nothing can be recorded, so that nothing is done in vain."""
        return problems.unrecorded() if self.away else None

    async def record(
        self,
        request: Request,
        endpoint: str,
        digest: Any,
        result: Response | Problem,
        seconds: float,
    ) -> Response | Problem:
        """What may leave: the result, once it is recorded, or the problem that it cannot be."""
        caller = caller_of(request.scope).id
        if not (isinstance(result, Problem) and result.kind == UNRECORDED):
            entry = new_entry(
                caller,
                endpoint,
                outcome(result),
                row_id=request.state.request_id,
                ago_s=seconds,
                input_sha256=digest.hexdigest(),
                model_sha256=getattr(request.state, "model_sha256", self._models.get(endpoint)),
            )
            if await self._recorder.record(entry):
                return result
        unrecorded = problems.unrecorded()
        AUDIT_ROWS.labels("refused").inc()
        self._recorder.tally(Alike(caller, endpoint, outcome(unrecorded)))
        return unrecorded

    async def record_at_the_door(
        self, scope: Scope, action: str, outcome: str, request_id: str
    ) -> None:
        """Returns once the answer may be sent, which it may in any case: it holds nothing."""
        alike = Alike(caller_of(scope).id, action, outcome)
        now = time.monotonic()
        if now - self._since > SUM_S:
            self._since, self._refusals = now, {}
        n = self._refusals.get(alike, 0)
        if n < ONE_BY_ONE and not self.away:
            self._refusals[alike] = n + 1
            if await self._recorder.record(new_entry(*alike, row_id=request_id)):
                return
        self._recorder.tally(alike)

    async def close(self) -> None:
        await asyncio.to_thread(self._recorder.close)


UNRECORDED = problems.unrecorded().kind


class Recorded(Response):
    """An answer of the door, such as a refusal, that is sent once it is recorded."""

    def __init__(self, audit: Audit, action: str, outcome: str, answer: Response) -> None:
        super().__init__(answer.body, answer.status_code)
        self.raw_headers = answer.raw_headers
        self._audit, self._given = audit, (action, outcome, answer.headers["X-Request-ID"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._audit.record_at_the_door(scope, *self._given)
        await super().__call__(scope, receive, send)


def wanted(settings: Settings) -> bool:
    return binding.required(settings.audit)


def ready(app: FastAPI) -> bool:
    """Whether what is asked can be answered. A service that refuses everything while its database
    is away should get no requests; one that spools is ready."""
    audit: Audit | None = getattr(app.state, "audit", None)
    return audit is None or not audit.away


def check(settings: Settings) -> None:
    """Errors: ValueError, OSError for settings with which no worker could start. Where it depends
    on the address whether a folder is needed, it may lack."""
    if settings.audit == "off":
        return
    read_keys(settings.audit_key_file)
    try:
        database.connect(settings.database_url).dispose()
    except OSError:
        if settings.audit == "on":
            raise


def new_digest() -> Any:
    return hashlib.sha256()


def record_now(
    engine: sa.Engine,
    action: str,
    about: str | None = None,
    caller: str | None = None,
    outcome: str = "done",
    input_sha256: str | None = None,
    keys: Sequence[Key] | None = None,
) -> None:
    """Append one row and return once it is durable: of what a command does, say to the keys, and
    before it is done. `caller` is this machine's user, and `keys` are the settings', unless given.
    Errors: FAILURES, ValueError."""
    keys = keys or read_keys(Settings().audit_key_file)
    chain = Chain(engine, keys[-1])
    caller = caller or f"os:{_user()}"
    try:
        entry = new_entry(caller, action, outcome, about=about, input_sha256=input_sha256)
        chain.append([entry])
    finally:
        chain.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def outcome(result: Response | Problem) -> str:
    """As it stands in a row."""
    if isinstance(result, Problem):
        return f"{result.status} {result.kind}"
    return str(result.status_code)
