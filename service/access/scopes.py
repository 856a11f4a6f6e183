"""Which scope a path belongs to: what a key or a token must be good for to ask it."""

from __future__ import annotations

HEALTH = frozenset({"/livez", "/readyz", "/healthz"})
SESSION, SIGN_OUT = "/session", "/sign-out"  # a browser's way in and out, with a key

_OF_PATH = {
    "/classify": "classify",
    "/print": "print",
    "/strip": "print",
    "/synthesize": "synthesize",
    "/models": "models",
    "/metrics": "metrics",
    "/": "page",
    "/docs": "docs",
    "/openapi.json": "docs",
    "/static/docs.js": "docs",
}
SCOPES = frozenset(_OF_PATH.values())
METERED = SCOPES - {"page", "docs"}  # opening a page is a dozen requests, all of them cheap


def scope_of(path: str) -> str | None:
    """None for a path that nobody is served: one without a scope is as if it were not there."""
    if scope := _OF_PATH.get(path):
        return scope
    if path.startswith("/static/vendor/swagger-ui/"):
        return "docs"
    return "page" if path.startswith("/static/") else None
