"""The web pages: files in this folder, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from service.access.caller import OPEN, caller_of

_FOLDER = Path(__file__).parent
_INDEX = (_FOLDER / "index.html").read_text()
_RATE = (_FOLDER / "rate.html").read_text()
_STUDIES = (_FOLDER / "studies.html").read_text()
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_DOCS = """<!doctype html>
<html lang="en">
<title>ECG-DiReNet: the endpoints</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/vendor/swagger-ui/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/static/vendor/swagger-ui/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script>
</html>
"""


def add_routes(app: FastAPI) -> None:
    app.add_route("/", _index, include_in_schema=False)
    app.add_route("/docs", _docs, include_in_schema=False)
    app.add_route("/rate", _rate, include_in_schema=False)
    app.add_route("/studies", _studies, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_FOLDER), name="static")


def docs_routes() -> list[BaseRoute]:
    """The OpenAPI page alone, and its files; /openapi.json is another's."""
    vendor = "/static/vendor/swagger-ui"
    return [
        Route("/docs", _docs),
        Route("/static/docs.js", lambda _: FileResponse(_FOLDER / "docs.js")),
        Mount(vendor, StaticFiles(directory=_FOLDER / "vendor" / "swagger-ui")),
    ]


async def _index(request: Request) -> Response:
    """Who signed in can sign out, once the page's code is there to do it."""
    page = _INDEX
    if caller_of(request.scope) is not OPEN:
        page = page.replace('id="sign-out"', 'id="sign-out" data-offered')
    return HTMLResponse(page, headers=_HEADERS)


async def _rate(_: Request) -> Response:
    """The same for everyone: whose it is stands in the link's fragment, which nobody sends."""
    return HTMLResponse(_RATE, headers=_HEADERS)


async def _studies(_: Request) -> Response:
    return HTMLResponse(_STUDIES, headers=_HEADERS)


async def _docs(_: Request) -> Response:
    return HTMLResponse(_DOCS, headers=_HEADERS)
