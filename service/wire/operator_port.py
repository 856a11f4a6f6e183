"""A port of its own for what only those who run the service should see: /metrics and /docs.

No key is asked for there; that it listens on an address of theirs is what protects it. One worker
has it, whichever came first; when that one ends, another takes it within a second.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Self

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service import logs, pages, problems
from service.answering import json_response
from service.settings import Settings
from service.wire.headers import with_headers

_AGAIN_S = 1.0
Metrics = Callable[[], tuple[bytes, str]]  # and their media type


class OperatorPort:
    """`with OperatorPort(…):` serves there, or waits to, in a thread; without such a port, not."""

    def __init__(self, edge: FastAPI, metrics: Metrics) -> None:
        self._settings: Settings = edge.state.settings
        self._edge, self._metrics = edge, metrics
        self._stopped = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name="operator-port", daemon=True)

    def __enter__(self) -> Self:
        if self._settings.operator_port is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                listening = _bind(self._settings)
            except OSError:
                self._stopped.wait(_AGAIN_S)  # another worker has it
                continue
            config = uvicorn.Config(
                _app(self._settings, self._edge, self._metrics),
                log_config=None,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=1,
            )
            self._server = uvicorn.Server(config)
            with listening:
                self._server.run(sockets=[listening])


def check_free(settings: Settings) -> None:
    """Errors: SystemExit where the service could never listen there."""
    if settings.operator_port is None:
        return
    try:
        _bind(settings).close()
    except OSError as error:
        where = f"{settings.operator_host}:{settings.operator_port}"
        raise SystemExit(
            f"the service cannot start: {where} of ECG_OPERATOR_PORT: {error.strerror}"
        ) from None


def _bind(settings: Settings) -> socket.socket:
    """Errors: OSError."""
    host, port = settings.operator_host, settings.operator_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _app(settings: Settings, edge: FastAPI, metrics: Metrics) -> ASGIApp:
    def get_metrics(_: Request) -> Response:
        content, media_type = metrics()
        return Response(content, media_type=media_type)

    routes = [Route("/livez", _alive)]
    if settings.metrics == "moved":
        routes.append(Route("/metrics", get_metrics))
    if settings.docs == "moved":
        routes.append(Route("/openapi.json", lambda _: json_response(edge.openapi())))
        routes += pages.docs_routes()
    app = Starlette(routes=routes, exception_handlers={404: _nothing})

    async def with_their_headers(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = with_headers(scope, send)
        await app(scope, receive, send)

    return with_their_headers


def _alive(_: Request) -> Response:
    return PlainTextResponse("\n")


def _nothing(_: Request, __: Exception) -> Response:
    return problems.not_found().response(logs.new_request_id())
