"""Headers that every answer carries, whoever made it."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

_EVERYWHERE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    # of what is no page: an SVG that is opened by itself, or an answer taken for HTML
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
)
_RESULTS: Headers = (*_EVERYWHERE, (b"cache-control", b"no-store"))
_FILES: Headers = (*_EVERYWHERE, (b"cache-control", b"no-cache"))  # asked for anew each time
_UNDER_TLS: Headers = ((b"strict-transport-security", b"max-age=31536000"),)


def with_headers(scope: Scope, send: Send) -> Send:
    """`send`, with the headers that an answer does not set itself."""
    headers = _FILES if scope["path"].startswith("/static/") else _RESULTS
    if scope.get("scheme") in ("https", "wss"):
        headers += _UNDER_TLS

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message["headers"]
            names = [name for name, _ in own]
            message["headers"] = [*own, *(one for one in headers if one[0] not in names)]
        await send(message)

    return send_with
