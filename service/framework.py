"""Where BentoML's defaults do not fit, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _bentoml_impl.server.app import ContextMiddleware
from _bentoml_sdk import Service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from service import binding, logs
from service.access import Guard
from service.edge import FRAMEWORK_PATHS, classify_directly, refuse_early
from service.headers import with_headers
from service.operator_port import OperatorPort
from service.rates import Rates
from service.scopes import HEALTH, scope_of
from service.settings import Settings


class EdgeService(Service[Any]):
    """A BentoML service whose requests reach the edge without what was measured to hurt.

    - The timeout middleware never cancels its timers: every request's context stays alive for the
      whole timeout, and garbage collection slows down with it. The edge has deadlines of its own.
    - The tracing middleware makes spans that nobody collects, unless an exporter is configured: as
      much time as all of the rest of the framework. The edge asks for no BentoML context either.
    - Where too much waits already, a request is refused before anything is spent on it.
    - The framework's metrics get a series for every URL ever asked for, and a URL may hold what
      should not be kept: paths that do not exist are renamed before the metrics see them.
    - Its own pages and routes know no keys: nothing is asked of it that the door has not let in.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        app = super().to_asgi(is_main)
        assert isinstance(app, Starlette)
        unused: set[Any] = {TimeoutMiddleware, ContextMiddleware}
        edge = next(a for a, *_ in self.mount_apps if isinstance(a, FastAPI))
        traced = BentoMLContainer.tracing.exporter_type.get() is not None
        if not traced:
            unused.add(OpenTelemetryMiddleware)
        app.user_middleware = [m for m in app.user_middleware if m.cls not in unused]
        return _Door(app, known_paths(self), edge, straight=not traced)


def known_paths(service: Service[Any]) -> frozenset[str]:
    """Paths without parameters: the framework's, the mounted apps' and their static files'."""
    paths: set[str] = set(FRAMEWORK_PATHS)
    for app, *_ in service.mount_apps:
        for route in app.routes if isinstance(app, Starlette) else ():
            path = getattr(route, "path", "")
            files = getattr(route, "app", None)
            if isinstance(files, StaticFiles) and files.directory is not None:
                root = Path(files.directory)
                paths |= {f"{path}/{f.relative_to(root)}" for f in root.rglob("*") if f.is_file()}
            paths.add(path)
    return frozenset(path for path in paths if "{" not in path)


def served_paths(known: frozenset[str], settings: Settings) -> frozenset[str]:
    """Of the known paths those that have a scope which is neither closed nor moved elsewhere."""
    shut = {s for s in ("metrics", "docs") if getattr(settings, s) in ("closed", "moved")}
    scopes = {path: scope_of(path) for path in known}
    return HEALTH | {path for path, scope in scopes.items() if scope and scope not in shut}


class _Door:
    """Before everything else: nobody goes on who may not, only served paths do, and /classify goes
    straight to the edge."""

    def __init__(
        self, app: ASGIApp, known: frozenset[str], edge: FastAPI, straight: bool = True
    ) -> None:
        self.app = app
        self.edge = edge if straight else None  # else every request is traced
        settings: Settings = edge.state.settings
        self.known = served_paths(known, settings)
        self.guard = None
        if binding.required(settings.access):
            self.guard = Guard(settings, Rates.inherited())
        self.operator_port = OperatorPort(settings, edge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            logs.configure()
            logs.event("door", keys_asked=self.guard is not None)
            with self.operator_port:
                await self.app(scope, receive, send)
            return
        send = with_headers(scope, send)
        if self.guard is None:
            await self._let_in(scope, receive, send)
        elif refusal := await self.guard.refusal(scope, receive):
            await refusal(scope, receive, send)
        else:
            try:
                await self._let_in(scope, receive, send)
            finally:
                self.guard.left(scope)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)  # there are none here
            return
        if scope["path"] == "/classify" and scope["method"] == "POST" and self.edge:
            if refusal := refuse_early(self.edge):
                await refusal(scope, receive, send)
            else:
                await classify_directly(self.edge, scope, receive, send)
            return
        if scope["path"] not in self.known:
            unknown = {"path": "/not-found", "raw_path": b"/not-found", "query_string": b""}
            scope = {**scope, **unknown}
        await self.app(scope, receive, send)
