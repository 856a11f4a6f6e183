"""Where BentoML's defaults do not fit, and why."""

from __future__ import annotations

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
from starlette.types import ASGIApp

from service.wire import protocol
from service.wire.door import Door, known_paths
from service.wire.draining import Draining
from service.wire.operator_port import OperatorPort


class EdgeService(Service[Any]):
    """A BentoML service whose requests reach the edge without what was measured to hurt.

    - The timeout middleware never cancels its timers: every request's context stays alive for the
      whole timeout, and garbage collection slows down with it. The edge has deadlines of its own.
    - The tracing middleware's spans hold URLs with their queries, and cost as much time as all of
      the rest of the framework, collected or not. The edge makes spans of its own, where it is told
      to (`service.tracing`), and asks for no BentoML context either.
    - Where too much waits already, a request is refused before anything is spent on it.
    - uvicorn takes heads of any size, however slowly they come: see `service.wire.protocol`.
    - The framework's metrics get a series for every URL ever asked for, and a URL may hold what
      should not be kept: paths that do not exist are renamed before the metrics see them.
    - Its own pages and routes know no keys: nothing is asked of it that the door has not let in.
    - A worker that is told to stop first drains: see `service.wire.draining`.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        app = super().to_asgi(is_main)
        assert isinstance(app, Starlette)
        unused: set[Any] = {TimeoutMiddleware, ContextMiddleware, OpenTelemetryMiddleware}
        app.user_middleware = [m for m in app.user_middleware if m.cls not in unused]
        edge = next(a for a, *_ in self.mount_apps if isinstance(a, FastAPI))
        settings = edge.state.settings
        protocol.serve_with(settings)
        known = known_paths(app for app, *_ in self.mount_apps)
        door = Door(app, known, edge, OperatorPort(edge, _metrics))
        return Draining(door, settings.drain_s)


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


def _metrics() -> tuple[bytes, str]:
    """Of all workers, and their media type."""
    client = BentoMLContainer.metrics_client.get()
    return client.generate_latest(), client.CONTENT_TYPE_LATEST
