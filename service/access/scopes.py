"""Which scope a path belongs to: what a key or a token must be good for to ask it."""

from __future__ import annotations

HEALTH = frozenset({"/livez", "/readyz", "/healthz"})
SESSION, SIGN_OUT = "/session", "/sign-out"  # a browser's way in and out, with a key
EVERYONE = "everyone"  # nobody is asked: a page that is the same for all, and tells nothing
RATER = "rate"  # what a rater's link opens, and no key or token

_OF_PATH = {
    "/classify": "classify",
    "/print": "print",
    "/strip": "print",
    "/synthesize": "synthesize",
    "/models": "models",
    "/metrics": "metrics",
    "/": "page",
    "/studies": "studies",
    "/studies/list": "studies",
    "/studies/create": "studies",
    "/studies/invite": "studies",
    "/studies/revoke": "studies",
    "/studies/close": "studies",
    "/studies/export": "studies",
    "/studies/report": "studies",
    "/rate": EVERYONE,
    "/rate/progress": RATER,
    "/rate/ecg": RATER,
    "/rate/answer": RATER,
    "/rate/undo": RATER,
    "/docs": "docs",
    "/openapi.json": "docs",
    "/static/docs.js": "docs",
}
SCOPES = frozenset(_OF_PATH.values()) - {EVERYONE, RATER}  # that a key or a token may have
METERED = SCOPES - {"page", "docs"} | {
    RATER
}  # opening a page is a dozen requests, all of them cheap


def scope_of(path: str) -> str | None:
    """None for a path that nobody is served: one without a scope is as if it were not there."""
    if scope := _OF_PATH.get(path):
        return scope
    if path.startswith("/static/vendor/swagger-ui/"):
        return "docs"
    if path.startswith("/static/rate/"):
        return EVERYONE
    return "page" if path.startswith("/static/") else None
