"""The door: what every request comes to before anything else."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from service import logs
from service.access import binding
from service.access.guard import Guard
from service.access.rates import Rates
from service.access.scopes import HEALTH, scope_of
from service.edge import FRAMEWORK_PATHS, classify_directly, refuse_early
from service.settings import Settings
from service.wire.headers import with_headers


def known_paths(apps: Iterable[ASGIApp]) -> frozenset[str]:
    """Paths without parameters: the framework's, the mounted apps' and their static files'."""
    paths: set[str] = set(FRAMEWORK_PATHS)
    for app in apps:
        for route in app.routes if isinstance(app, Starlette) else ():
            path = getattr(route, "path", "")
            files = getattr(route, "app", None)
            if isinstance(files, StaticFiles) and files.directory is not None:
                root = Path(files.directory)
                found = (f.relative_to(root) for f in root.rglob("*") if f.is_file())
                paths |= {f"{path}/{f}" for f in found if f.suffix not in (".py", ".pyc")}
            paths.add(path)
    return frozenset(path for path in paths if "{" not in path)


def served_paths(known: frozenset[str], settings: Settings) -> frozenset[str]:
    """Of the known paths those that have a scope which is neither closed nor moved elsewhere."""
    shut = {s for s in ("metrics", "docs") if getattr(settings, s) in ("closed", "moved")}
    scopes = {path: scope_of(path) for path in known}
    return HEALTH | {path for path, scope in scopes.items() if scope and scope not in shut}


class Door:
    """Before everything else: nobody goes on who may not, only served paths do, and /classify goes
    straight to the edge."""

    def __init__(
        self,
        app: ASGIApp,
        known: frozenset[str],
        edge: FastAPI,
        beside: AbstractContextManager[Any] | None = None,
    ) -> None:
        """`app`: with all that is around the edge; `beside`: what runs for as long as it does."""
        self.app, self.beside = app, beside or nullcontext()
        self.edge = edge
        settings: Settings = edge.state.settings
        self.known = served_paths(known, settings)
        self.guard = None
        if binding.required(settings.access):
            self.guard = Guard(settings, Rates.inherited(), edge.state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            logs.configure()
            logs.event("door", keys_asked=self.guard is not None)
            if self.guard is not None:
                self.guard.prepare()
            with self.beside:
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
        if scope["path"] == "/classify" and scope["method"] == "POST":
            if refusal := refuse_early(self.edge, scope["query_string"]):
                await refusal(scope, receive, send)
            else:
                await classify_directly(self.edge, scope, receive, send)
            return
        if scope["path"] not in self.known:
            unknown = {"path": "/not-found", "raw_path": b"/not-found", "query_string": b""}
            scope = {**scope, **unknown}
        await self.app(scope, receive, send)
