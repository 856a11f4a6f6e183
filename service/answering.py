"""One request from its body to its answer: limits, deadline, hang-ups, errors, the log line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ecg.errors import EcgError
from ecg.formats import File
from service import logs, metrics, problems
from service.batcher import QueueFull
from service.body import read_files
from service.problems import Problem
from service.settings import Settings

Work = Callable[[list[File], float], Coroutine[Any, Any, dict[str, Any] | Response]]


async def answer(request: Request, endpoint: str, work: Work) -> Response:
    """`work(files, deadline)`'s result as a response, or the problem that came instead.

    A dict is sent as JSON, with the request's id. The work is cancelled at the deadline and when
    the client hangs up.
    """
    settings: Settings = request.app.state.settings
    request_id = logs.new_request_id()
    started = time.perf_counter()
    deadline = asyncio.get_running_loop().time() + settings.timeout_s
    try:
        async with asyncio.timeout_at(deadline):
            files = await read_files(request, settings.max_body)
        value = await _while_connected(request, work(files, deadline), deadline)
        if isinstance(value, Response):
            response = value
            response.headers["X-Request-ID"] = request_id
        else:
            response = json_response({"request_id": request_id, **value}, request_id)
    except Exception as error:
        problem = _as_problem(error, settings, request_id)
        metrics.PROBLEMS.labels(endpoint, problem.kind).inc()
        response = problem.response(request_id)
    if settings.access_log:
        logs.event(
            "request",
            request_id=request_id,
            endpoint=endpoint,
            status=response.status_code,
            ms=round(1000 * (time.perf_counter() - started), 2),
        )
    return response


def json_response(value: dict[str, Any], request_id: str | None = None) -> Response:
    headers = {"X-Request-ID": request_id} if request_id else None
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, headers=headers, media_type="application/json")


def accepted(request: Request, offered: tuple[str, ...]) -> str:
    """The first offered media type that the client accepts, in its order. Errors: Problem 406."""
    header = request.headers.get("accept", "*/*")
    ranked = sorted(
        (part.split(";") for part in header.lower().split(",") if part.strip()),
        key=_preference,
        reverse=True,
    )
    for name, *_ in ranked:
        for media_type in offered:
            group = media_type.split("/")[0] + "/*"
            if name.strip() in (media_type, group, "*/*"):
                return media_type
    raise problems.not_acceptable(", ".join(offered))


def _preference(part: list[str]) -> float:
    for parameter in part[1:]:
        key, _, value = parameter.strip().partition("=")
        if key == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


async def _while_connected(
    request: Request, work: Coroutine[Any, Any, Any], deadline: float
) -> Any:
    """`work`'s result; it is cancelled at the deadline, or once the client has hung up."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    gone = loop.create_task(_hung_up(request))
    try:
        await asyncio.wait(
            {task, gone}, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED
        )
        if task.done():
            return task.result()
        raise ClientDisconnect if gone.done() else TimeoutError
    finally:
        task.cancel()
        gone.cancel()
        # An error's traceback holds this frame, and the task holds the error: left in a circle,
        # the body would stay in memory until a collection, which is rare.
        del task, gone


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _as_problem(error: Exception, settings: Settings, request_id: str) -> Problem:
    match error:
        case Problem():
            return error
        case EcgError():
            return problems.of_error(error)
        case QueueFull():
            return problems.overloaded(error.retry_after_s)
        case TimeoutError():
            return problems.late(settings.timeout_s)
        case ClientDisconnect():
            return problems.hung_up()
        case _:
            logs.failure(request_id, error)
            return problems.internal()
