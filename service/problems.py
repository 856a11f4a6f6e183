"""Errors as RFC 9457 problem documents: what is wrong, where, and what would be right."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import orjson
from starlette.responses import Response

from ecg.errors import (
    EcgError,
    TooLargeError,
    UnknownFormatError,
    UnreadableError,
    UnservableError,
)

MEDIA_TYPE = "application/problem+json"


@dataclass
class Problem(Exception):
    """An error answer. `kind` is the last part of the stable `type` URI."""

    status: int
    kind: str
    title: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    def response(self, request_id: str) -> Response:
        body = {
            "type": f"/problems/{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        headers = {**self.headers, "X-Request-ID": request_id}
        return Response(orjson.dumps(body), self.status, headers, MEDIA_TYPE)


_OF_ERROR: dict[type[EcgError], tuple[int, str, str]] = {
    UnreadableError: (400, "unreadable", "The body could not be read"),
    UnknownFormatError: (415, "unknown-format", "The body is in no known format"),
    TooLargeError: (413, "too-large", "The body is too large"),
    UnservableError: (422, "unservable", "The record cannot be answered"),
}


def of_error(error: EcgError) -> Problem:
    """The problem that a reader's refusal amounts to."""
    status, kind, title = _OF_ERROR.get(type(error), (500, "internal", "Internal error"))
    return Problem(status, kind, title, str(error))


def too_large(max_body: int) -> Problem:
    return Problem(
        413,
        "too-large",
        "The body is too large",
        f"at most {max_body / 2**20:g} MiB are accepted; send fewer or shorter records a request",
    )


def overloaded(retry_after_s: float) -> Problem:
    return Problem(
        429,
        "overloaded",
        "Too many requests",
        "more segments are waiting than this service takes; try again later",
        {"Retry-After": str(max(1, math.ceil(retry_after_s)))},
    )


def unauthorized(detail: str, error: str | None = None) -> Problem:
    """`error` as RFC 6750 names it, where a credential was sent."""
    challenge = 'Bearer realm="ecg-direnet"' + (f', error="{error}"' if error else "")
    return Problem(
        401, "unauthorized", "A valid key is needed", detail, {"WWW-Authenticate": challenge}
    )


def forbidden(scope: str) -> Problem:
    return Problem(
        403,
        "forbidden",
        "The key may not do this",
        f"it lacks the scope `{scope}`; ask those who run this service for a key that has it",
        {
            "WWW-Authenticate": 'Bearer realm="ecg-direnet", error="insufficient_scope", '
            f'scope="{scope}"'
        },
    )


def cross_site() -> Problem:
    return Problem(
        403,
        "cross-site",
        "Another site may not ask this",
        "what a signed-in browser posts must come from this service's own page; programs send "
        "`Authorization: Bearer` with a key instead",
    )


def too_often(wait_s: float, what: str) -> Problem:
    return Problem(
        429,
        "too-often",
        "Too many requests",
        f"{what}; try again later",
        {"Retry-After": str(max(1, math.ceil(wait_s)))},
    )


def keys_unreachable(whose: str) -> Problem:
    return Problem(
        503,
        "keys-unreachable",
        "Keys cannot be checked",
        f"{whose} could not be asked, and nobody is let in unchecked; try again later",
        {"Retry-After": "5"},
    )


def no_rater(detail: str) -> Problem:
    """Who asks as a rater and is none."""
    return Problem(
        401,
        "no-rater",
        "This link does not open a study",
        detail,
        {"WWW-Authenticate": 'Bearer realm="ecg-direnet rating"'},
    )


def no_such_presentation() -> Problem:
    return Problem(
        404,
        "no-such-presentation",
        "This was not shown to you",
        "the presentation is not one of this rater's; load the page again",
    )


def another_answer() -> Problem:
    return Problem(
        409,
        "another-answer",
        "This id is another answer's",
        "an id stands for one answer, sent once or again; a changed answer needs a new id",
    )


def study_closed() -> Problem:
    return Problem(
        409, "study-closed", "The study is closed", "its owner closed it: no answer is taken now"
    )


def study_open() -> Problem:
    return Problem(
        409,
        "study-open",
        "The study is still open",
        "what its ECGs are is not told before it is closed; close it first",
    )


def no_such_study() -> Problem:
    return Problem(404, "no-such-study", "There is no such study", "see the list of studies")


def studies_unreachable() -> Problem:
    return Problem(
        503,
        "studies-unreachable",
        "The studies cannot be read or written",
        "their database could not be asked; what is not confirmed is not kept: try again",
        {"Retry-After": "5"},
    )


def late(timeout_s: float) -> Problem:
    return Problem(
        503,
        "deadline",
        "No answer in time",
        f"the answer was not ready within {timeout_s:.0f} s; try again later",
        {"Retry-After": "1"},
    )


def unrecorded() -> Problem:
    return Problem(
        503,
        "unrecorded",
        "The answer cannot be recorded",
        "answers leave only once they are in the audit, whose database is away; try again later",
        {"Retry-After": "5"},
    )


def stopping() -> Problem:
    return Problem(
        503,
        "stopping",
        "No longer ready",
        "this one answers what has come and then stops; send requests to another",
        {"Retry-After": "1"},
    )


def no_generator() -> Problem:
    return Problem(
        503,
        "no-generator",
        "Nothing to generate with",
        "the model store holds no generator; train and export one (see the README)",
    )


def not_found() -> Problem:
    return Problem(
        404,
        "not-found",
        "There is nothing here",
        "see / for the page, /rate and /studies for rating, /docs for the endpoints: /classify, "
        "/print, /strip, /synthesize, /models, /livez, /readyz, /metrics",
    )


def not_acceptable(offered: str) -> Problem:
    return Problem(406, "not-acceptable", "No such answer", f"this endpoint answers in {offered}")


def wrong_method(allowed: str) -> Problem:
    return Problem(
        405,
        "wrong-method",
        "The method does not fit",
        f"use {allowed} here",
        {"Allow": allowed},
    )


def malformed(detail: str = "the request is not HTTP/1.1 as RFC 9112 has it") -> Problem:
    return Problem(400, "malformed", "The request is malformed", detail)


def head_too_large(max_head: int) -> Problem:
    return Problem(
        431,
        "head-too-large",
        "The request's head is too large",
        f"at most {max_head / 1024:g} KiB of request line and header fields are accepted",
    )


def head_too_slow(timeout_s: float) -> Problem:
    return Problem(
        408,
        "head-too-slow",
        "The request's head did not come",
        f"its request line and header fields must be there within {timeout_s:g} s",
    )


def internal() -> Problem:
    return Problem(
        500,
        "internal",
        "Internal error",
        "the service failed on this request; the request id finds it in the service's log",
    )


def hung_up() -> Problem:
    """Nobody reads this one; it gives the log and the metrics their entry."""
    return Problem(499, "hung-up", "The client hung up", "before the answer was ready")
