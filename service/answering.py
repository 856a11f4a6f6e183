"""One request from its body to its answer: limits, deadline, hang-ups, errors, the log line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ecg.errors import EcgError
from ecg.formats import File
from ecg.limits import MIB
from service import logs, metrics, problems, tracing
from service.audit.trail import Audit, Recorded, new_digest, outcome
from service.batcher import QueueFull
from service.problems import Problem
from service.settings import Settings
from service.tracing import Trace, Tracing
from service.wire.body import Seen, read_files

T = TypeVar("T")
WATCH_AFTER_S = 0.05  # from when on a client that hangs up is noticed
# of the files, until a limit that it may extend
Work = Callable[[list[File], asyncio.Timeout], Coroutine[Any, Any, dict[str, Any] | Response]]


async def answer(request: Request, endpoint: str, work: Work) -> Response:
    """`work(files, limit)`'s result as a response, or the problem that came instead.

    A dict is sent as JSON, with the request's id. The work is cancelled at the limit, which a large
    body puts off as it comes in, and when the client hangs up.
    """
    with request.app.state.balance as balance:
        response = await _answer(request, endpoint, work)
        response.headers.update(balance.headers())
        return response


async def _answer(request: Request, endpoint: str, work: Work) -> Response:
    request.state.request_id = request_id = logs.new_request_id()
    trace = _trace(request, endpoint, request_id)
    started = time.perf_counter()
    audit: Audit | None = request.app.state.audit
    if audit is None:
        result = await _worked(request, work, None, trace)
    else:
        digest = new_digest()
        result = audit.unready() or await _worked(request, work, digest.update, trace)
        seconds = time.perf_counter() - started
        with tracing.span("record"):
            result = await audit.record(request, endpoint, digest, result, seconds)
    if isinstance(result, Problem):
        kind, response = result.kind, result.response(request_id)
        metrics.PROBLEMS.labels(endpoint, kind).inc()
    else:
        kind, response = None, result
    seconds = time.perf_counter() - started
    if trace:
        trace.end(response.status_code, kind)
    settings: Settings = request.app.state.settings
    _note(settings, request_id, endpoint, response.status_code, seconds, trace)
    return response


async def _worked(
    request: Request, work: Work, seen: Seen | None, trace: Trace | None
) -> Response | Problem:
    """The work's result, or what came instead; `seen` is given the body as it comes."""
    settings: Settings = request.app.state.settings
    request_id: str = request.state.request_id
    arrived = asyncio.get_running_loop().time()
    limit = asyncio.timeout_at(arrived + settings.timeout_s)

    def received(n_bytes: int) -> None:
        extend(limit, n_bytes / MIB * settings.timeout_per_mib_s)

    try:
        async with limit:
            most = settings.max_body, settings.max_parts
            with tracing.span("receive"):
                files = await read_files(request, *most, received, seen)
            if trace:
                trace.note(n_files=len(files), n_bytes=sum(len(file.content) for file in files))
            value = await _while_connected(request, work(files, limit))
        if isinstance(value, Response):
            value.headers["X-Request-ID"] = request_id
            return value
        return json_response({"request_id": request_id, **value}, request_id)
    except Exception as error:
        return _as_problem(error, at(limit) - arrived, request_id)


def _trace(request: Request, endpoint: str, request_id: str) -> Trace | None:
    """Where the request is recorded."""
    recorder: Tracing | None = request.app.state.tracing
    if recorder is None:
        return None
    return recorder.begin(endpoint, request_id, request.headers.get("traceparent"))


def at(limit: asyncio.Timeout) -> float:
    """On the loop's clock."""
    when = limit.when()
    assert when is not None
    return when


def extend(limit: asyncio.Timeout, more_s: float) -> None:
    limit.reschedule(at(limit) + more_s)


def refused(
    endpoint: str,
    problem: Problem,
    settings: Settings,
    audit: Audit | None,
    page: Callable[[Problem, str], Response] = Problem.response,
) -> Response:
    """The answer to a request of which nothing was read; the audit hears of it as it is sent.
    `page` writes the problem, with the request's id."""
    request_id = logs.new_request_id()
    metrics.PROBLEMS.labels(endpoint, problem.kind).inc()
    _note(settings, request_id, endpoint, problem.status, 0.0)
    response = page(problem, request_id)
    if audit:
        return Recorded(audit, endpoint, outcome(problem), response)
    return response


def _note(
    settings: Settings,
    request_id: str,
    endpoint: str,
    status: int,
    seconds: float,
    trace: Trace | None = None,
) -> None:
    """In the metrics, and in the log where it is wanted."""
    metrics.REQUESTS.labels(endpoint, status).inc()
    metrics.REQUEST_SECONDS.labels(endpoint).observe(seconds)
    if settings.access_log:
        ms = round(1000 * seconds, 2)
        traced = {"trace_id": trace.id} if trace else {}
        logs.event(
            "request", request_id=request_id, endpoint=endpoint, status=status, ms=ms, **traced
        )


def json_response(value: dict[str, Any], request_id: str | None = None) -> Response:
    headers = {"X-Request-ID": request_id} if request_id else None
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, headers=headers, media_type="application/json")


def accepted(request: Request, offered: tuple[str, ...]) -> str:
    """The first offered media type that the client accepts, in its order. Errors: Problem 406."""
    for name, *_ in accept_ranges(request):
        for media_type in offered:
            group = media_type.split("/")[0] + "/*"
            if name in (media_type, group, "*/*"):
                return media_type
    raise problems.not_acceptable(", ".join(offered))


def accept_ranges(request: Request) -> list[list[str]]:
    """The media types that the client accepts, in its order and lower case, each followed by its
    parameters."""
    header = request.headers.get("accept", "*/*")
    parts = (part.strip().split(";") for part in header.lower().split(",") if part.strip())
    ranked = sorted(parts, key=_preference, reverse=True)
    return [[name.strip(), *parameters] for name, *parameters in ranked]


def _preference(part: list[str]) -> float:
    for parameter in part[1:]:
        key, _, value = parameter.strip().partition("=")
        if key == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """`work`'s result; it is cancelled once the client has hung up. Errors: ClientDisconnect."""
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None
    gone: asyncio.Task[None] | None = None
    over = False

    def cancel(gone: asyncio.Task[None]) -> None:
        if not over and not gone.cancelled():
            this.cancel()

    def watch() -> None:
        nonlocal gone
        gone = loop.create_task(_hung_up(request))
        gone.add_done_callback(cancel)

    timer = loop.call_later(WATCH_AFTER_S, watch)  # most are answered before: a task costs more
    try:
        return await work
    except asyncio.CancelledError:
        if gone and gone.done() and this.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        over = True
        timer.cancel()
        if gone:
            gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _as_problem(error: Exception, timeout_s: float, request_id: str) -> Problem:
    match error:
        case Problem():
            return error
        case EcgError():
            return problems.of_error(error)
        case QueueFull():
            return problems.overloaded(error.retry_after_s)
        case TimeoutError():
            return problems.late(timeout_s)
        case ClientDisconnect():
            return problems.hung_up()
        case _:
            logs.failure(request_id, error)
            return problems.internal()
