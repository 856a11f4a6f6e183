"""The web pages: files in this folder, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
_SECURITY = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# the OpenAPI page's script sets styles
_DOCS_SECURITY = {
    **_SECURITY,
    "Content-Security-Policy": f"{_POLICY}; style-src 'self' 'unsafe-inline'",
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
    app.mount("/static", StaticFiles(directory=_FOLDER), name="static")


async def _index(_: Request) -> Response:
    return FileResponse(_FOLDER / "index.html", headers=_SECURITY)


async def _docs(_: Request) -> Response:
    return HTMLResponse(_DOCS, headers=_DOCS_SECURITY)
