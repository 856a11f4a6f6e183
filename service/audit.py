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

from service import binding, database, problems
from service.caller import OPEN, caller_of
from service.chain import Chain, Key, new_entry, read_keys
from service.metrics import AUDIT_ROWS
from service.problems import Problem
from service.recorder import SUM_S, Alike, Recorder
from service.settings import Settings

ONE_BY_ONE = 10  # refusals alike, in SUM_S; then they are summed
UNKNOWN = "unknown"  # who asks without a key


class Audit:
    """What the edge does with a recorder: one a worker."""

    def __init__(self, recorder: Recorder, models: dict[str, str], guarded: bool) -> None:
        """`models`: the SHA-256 of the one that answers at an endpoint; `guarded`: keys are asked
        for."""
        self._recorder, self._models, self._guarded = recorder, models, guarded
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
        return cls(recorder, models, binding.required(settings.access))

    @property
    def away(self) -> bool:
        return self._recorder.away

    async def record(
        self,
        request: Request,
        endpoint: str,
        digest: Any,
        problem: Problem | None,
        status: int,
        seconds: float,
    ) -> None:
        """Returns once the answer may leave. Errors: Problem 503, it must not."""
        caller = caller_of(request.scope).id
        if problem is not None and problem.kind == UNRECORDED:
            self._count(Alike(caller, endpoint, _outcome(problem, status)))
            raise problem
        entry = new_entry(
            caller,
            endpoint,
            _outcome(problem, status),
            row_id=request.state.request_id,
            ago_s=seconds,
            input_sha256=digest.hexdigest(),
            model_sha256=getattr(request.state, "model_sha256", self._models.get(endpoint)),
        )
        if not await self._recorder.record(entry):
            unrecorded = problems.unrecorded()
            self._count(Alike(caller, endpoint, _outcome(unrecorded, 503)))
            raise unrecorded

    async def record_refusal(
        self, scope: Scope, endpoint: str, problem: Problem, request_id: str
    ) -> None:
        """Returns once the refusal may be sent, which it may in any case: it holds nothing."""
        caller = caller_of(scope)
        who = UNKNOWN if self._guarded and caller is OPEN else caller.id
        alike = Alike(who, endpoint, _outcome(problem, problem.status))
        now = time.monotonic()
        if now - self._since > SUM_S:
            self._since, self._refusals = now, {}
        n = self._refusals.get(alike, 0)
        if n < ONE_BY_ONE and not self.away:
            self._refusals[alike] = n + 1
            if await self._recorder.record(new_entry(*alike, row_id=request_id)):
                return
        self._recorder.tally(alike)

    def check(self) -> None:
        """Errors: Problem 503 where nothing can be recorded, so that nothing is done in vain."""
        if self.away:
            raise problems.unrecorded()

    def _count(self, alike: Alike) -> None:
        AUDIT_ROWS.labels("refused").inc()
        self._recorder.tally(alike)

    async def close(self) -> None:
        await asyncio.to_thread(self._recorder.close)


UNRECORDED = problems.unrecorded().kind


class Refusal(Response):
    """A problem that is sent once it is recorded."""

    def __init__(self, audit: Audit, endpoint: str, problem: Problem, request_id: str) -> None:
        response = problem.response(request_id)
        super().__init__(response.body, response.status_code, media_type=response.media_type)
        self.raw_headers = response.raw_headers
        self._given = endpoint, problem, request_id
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._audit.record_refusal(scope, *self._given)
        await super().__call__(scope, receive, send)


def wanted(settings: Settings) -> bool:
    return binding.required(settings.audit)


def ready(app: FastAPI) -> bool:
    """Whether what is asked can be answered. A service that refuses everything while its database
    is away should get no requests; one that spools is ready."""
    audit: Audit | None = getattr(app.state, "audit", None)
    return audit is None or not audit.away


def check(settings: Settings) -> None:
    """Errors: ValueError, OSError for settings with which no worker could start. A folder may lack
    where it depends on the address whether it is needed."""
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


def _outcome(problem: Problem | None, status: int) -> str:
    return f"{problem.status} {problem.kind}" if problem else str(status)


if __name__ == "__main__":
    from service.auditor import main

    main()
