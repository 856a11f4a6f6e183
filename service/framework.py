"""Where BentoML's defaults do not fit, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _bentoml_impl.server.app import ContextMiddleware
from _bentoml_sdk import Service
from bentoml import serving
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from circus.client import make_json
from circus.sighandler import SysHandler
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from service.draining import Draining
from service.edge import FRAMEWORK_PATHS, classify_directly, refuse_early


class EdgeService(Service[Any]):
    """A BentoML service whose requests reach the edge without what was measured to hurt.

    - The timeout middleware never cancels its timers: every request's context stays alive for the
      whole timeout, and garbage collection slows down with it. The edge has deadlines of its own.
    - The tracing middleware makes spans that nobody collects, unless an exporter is configured: as
      much time as all of the rest of the framework. The edge asks for no BentoML context either.
    - Where too much waits already, a request is refused before anything is spent on it.
    - The framework's metrics get a series for every URL ever asked for, and a URL may hold what
      should not be kept: paths that do not exist are renamed before the metrics see them.
    - A worker that is told to stop first drains: see `service.draining`.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        app = super().to_asgi(is_main)
        assert isinstance(app, Starlette)
        unused: set[Any] = {TimeoutMiddleware, ContextMiddleware}
        edge = next((a for a, *_ in self.mount_apps if isinstance(a, FastAPI)), None)
        drain_s = edge.state.settings.drain_s if edge else 0.0
        if BentoMLContainer.tracing.exporter_type.get() is None:
            unused.add(OpenTelemetryMiddleware)
        else:
            edge = None  # every request is traced
        app.user_middleware = [m for m in app.user_middleware if m.cls not in unused]
        return Draining(_Door(app, known_paths(self), edge), drain_s)


def supervise_well() -> None:
    """In the first process, before it has workers.

    - A worker that dies is replaced wherever the service runs: in a container, told by its
      environment, BentoML would go on with those that are left, slower and slower, until none is.
    - SIGTERM is heard whenever it comes: circus forgets it while it starts or looks after workers.
    """
    serving.running_inside_container = lambda: False
    SysHandler.quit = _quit


def _quit(self: SysHandler) -> None:
    """In place of circus' own, which asks once and takes a no."""
    controller = self.controller

    def ask() -> None:
        if not controller.arbiter._stopping:
            controller.dispatch((None, make_json("quit")))
            controller.loop.call_later(_ASK_AGAIN_S, ask)

    controller.loop.add_callback_from_signal(ask)


_ASK_AGAIN_S = 0.2


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


class _Door:
    """Before everything else: only known paths go on, and /classify goes straight to the edge."""

    def __init__(self, app: ASGIApp, known: frozenset[str], edge: FastAPI | None) -> None:
        self.app, self.known, self.edge = app, known, edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
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
