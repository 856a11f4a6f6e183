"""What a rater's page asks: how far one is, what to look at, and to keep or undo an answer.

The token comes in a header, `Authorization: Bearer rater_…`; the page has it from the fragment of
the personal link, which browsers send to nobody.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from ecg.errors import TooLargeError, UnservableError
from ecg.formats import File
from service import problems
from service.answering import answer
from service.rating import answers, openapi, showing, studies
from service.rating.open import Rating
from service.rating.showing import BLOCK, SMALL_BLOCK, padded
from service.rating.studies import Rater, Study

MAX_ANSWER = 2**16  # bytes
NO_RATER = "the personal link is incomplete, or its owner ended it; ask them for another"


def add_routes(app: FastAPI) -> None:
    app.get("/rate/progress", **openapi.PROGRESS)(get_progress)
    app.get("/rate/ecg", **openapi.ECG)(get_ecg)
    app.post("/rate/answer", **openapi.ANSWER)(post_answer)
    app.post("/rate/undo", **openapi.UNDO)(post_undo)


async def get_progress(request: Request) -> Response:
    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        rater, study = await _who(request)
        return await _progress(request, study, rater, {})

    return await answer(request, "rate", work)


async def get_ecg(request: Request) -> Response:
    """At `?position=`, counted from 0. When it comes says no more than that it is there."""
    clock = asyncio.get_running_loop().time
    arrived = clock()

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        rater, study = await _who(request)
        position = _position(request.query_params.get("position", ""))
        found = await asyncio.to_thread(_ecg, request, study, rater, position)
        await asyncio.sleep(showing.until_due(clock() - arrived))
        return found

    return await answer(request, "rate", work)


async def post_answer(request: Request) -> Response:
    return await _post(request, undoing=False)


async def post_undo(request: Request) -> Response:
    return await _post(request, undoing=True)


async def _post(request: Request, undoing: bool) -> Response:
    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        rater, study = await _who(request)
        body = files[0].content
        if len(body) > MAX_ANSWER:
            raise TooLargeError(f"an answer has at most {MAX_ANSWER >> 10} KiB")
        given = answers.read_given(bytes(body), undoing)
        kept = await asyncio.to_thread(
            _rating(request), lambda engine: answers.keep(engine, rater.id, given)
        )
        said = {"presentation": given.presentation, "revision": kept.revision}
        return await _progress(request, study, rater, {**said, "stands": kept.stands})

    return await answer(request, "rate", work)


async def _who(request: Request) -> tuple[Rater, Study]:
    """Whose token the request carries, and of what study. Errors: Problem."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    rating = _rating(request)
    found = None
    if scheme.lower() == "bearer":
        found = await asyncio.to_thread(rating.caller, token.strip())
    if found is None:
        raise problems.no_rater(NO_RATER)
    rater, caller = found
    request.state.caller = caller  # where nobody was asked at the door
    study = await asyncio.to_thread(rating, lambda engine: studies.find(engine, rater.study))
    return rater, study


async def _progress(request: Request, study: Study, rater: Rater, more: dict[str, Any]) -> Response:
    found = await asyncio.to_thread(
        _rating(request), lambda engine: studies.progress(engine, rater.id)
    )
    value = {**showing.so_far(study, rater, found), **more}
    return padded(value, SMALL_BLOCK, request.state.request_id)


def _ecg(request: Request, study: Study, rater: Rater, position: int) -> Response:
    if study.closed is not None:
        raise problems.study_closed()
    try:
        one = _rating(request)(lambda engine: studies.presentation(engine, rater.id, position))
    except LookupError:
        raise problems.no_such_presentation() from None
    block = BLOCK * len(one.sigs)
    return padded(showing.shown(study, one), block, request.state.request_id)


def _position(text: str) -> int:
    """Errors: UnservableError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise UnservableError("must be a whole number, counted from 0", "position")
    return int(text)


def _rating(request: Request) -> Rating:
    return request.app.state.rating
