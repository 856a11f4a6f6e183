"""What a study's owner asks: to make one, to invite, to see how far it is, to close it, and then
its export and its report. Nothing tells what an ECG is before the study is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from ecg.errors import UnreadableError, UnservableError
from ecg.formats import File
from ecg.store import Generator
from service import problems
from service.answering import answer, extend, json_response
from service.engine import Engine
from service.rating import export, material, openapi, report, report_page, studies
from service.rating.open import Rating
from service.rating.plan import Plan
from service.rating.schemas import Invited, OfRater, OfStudy
from service.rating.studies import Study

T = TypeVar("T")
Asked = TypeVar("Asked", bound=BaseModel)
MAX_HERE = 300  # ECGs of a study that is made in a request; the command makes larger ones
MAKE_S = 2.0  # more time, for each ECG that is made


def add_routes(app: FastAPI) -> None:
    app.get("/studies/list", **openapi.LIST)(get_list)
    app.get("/studies/report", **openapi.REPORT)(get_report)
    app.get("/studies/export", **openapi.EXPORT)(get_export)
    app.post("/studies/create", **openapi.CREATE)(post_create)
    app.post("/studies/invite", **openapi.INVITE)(post_invite)
    app.post("/studies/revoke", **openapi.REVOKE)(post_revoke)
    app.post("/studies/close", **openapi.CLOSE)(post_close)


async def get_list(request: Request) -> Response:
    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any]:
        generators = _generators(request)
        return {
            "generators": {
                name: {
                    "source": material.source_of(one.card),
                    "statements": one.card.statements,
                }
                for name, one in generators.items()
            },
            "most": MAX_HERE,
            "studies": await _in_thread(request, _list),
        }

    return await answer(request, "studies", work)


async def post_create(request: Request) -> Response:
    """A plan in JSON; with real ECGs, parts of a multipart body: the plan, and the set as NPZ."""

    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any]:
        plan, real_set = _parts(files)
        if plan.n > MAX_HERE:
            raise UnservableError(
                f"asks for more than {MAX_HERE} ECGs: make it with python -m service.studies create"
            )
        extend(limit, MAKE_S * plan.n)
        known = _generators(request)
        if unknown := sorted(set(plan.generated) - set(known)):
            raise UnservableError(
                f"{unknown[0]} is not served here; these are: {', '.join(known) or 'none'}",
                "generated",
            )
        generators = {name: known[name] for name in plan.generated}

        def make() -> tuple[list[material.Ecg], dict[str, Any]]:
            real = material.read_real(real_set) if real_set is not None else None
            ecgs = material.gather(plan, generators, real)
            preparation = material.common_preparation(generators)
            return ecgs, material.described(list(generators.values()), real, preparation)

        try:
            async with _rating(request).make:
                ecgs, made_with = await asyncio.to_thread(make)
        except material.Unsuitable as error:
            raise UnservableError(str(error)) from None
        study = await _in_thread(
            request, lambda engine: studies.create(engine, plan, ecgs, made_with)
        )
        return {"study": study.id}

    return await answer(request, "studies", work)


async def post_invite(request: Request) -> Response:
    """The token is told in this answer alone; the page makes the link of it."""

    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any]:
        asked = _read(files[0].content, Invited)
        study = await _study(request, asked.study)
        try:
            rater, token = await _in_thread(
                request, lambda engine: studies.invite(engine, study, asked.name, asked.simulated)
            )
        except ValueError as error:
            raise UnservableError(str(error)) from None
        return {"rater": rater.id, "token": token}

    return await answer(request, "studies", work)


async def post_revoke(request: Request) -> Response:
    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any]:
        asked = _read(files[0].content, OfRater)
        return {
            "revoked": await _in_thread(request, lambda engine: studies.revoke(engine, asked.rater))
        }

    return await answer(request, "studies", work)


async def post_close(request: Request) -> Response:
    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any]:
        study = await _study(request, _read(files[0].content, OfStudy).study)
        await _in_thread(request, lambda engine: studies.close(engine, study.id))
        return {"closed": study.id}

    return await answer(request, "studies", work)


async def get_report(request: Request) -> Response:
    """`?study=ID&format=html`, json or csv."""

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        form = request.query_params.get("format", "html")
        if form not in _FORMS:
            raise UnservableError(f"must be one of {', '.join(_FORMS)}", "format")
        study = await _closed(request)
        extend(limit, 30.0)

        def make(engine: sa.Engine) -> Response:
            return _FORMS[form](report.figures(export.of(engine, study)))

        return await _in_thread(request, make)

    return await answer(request, "studies", work)


async def get_export(request: Request) -> Response:
    """`?study=ID`: the folder that the command writes, as a zip."""

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        study = await _closed(request)
        extend(limit, 30.0)
        content = await _in_thread(request, lambda engine: export.zipped(export.of(engine, study)))
        named = {"Content-Disposition": f'attachment; filename="study-{study.id}.zip"'}
        return Response(content, headers=named, media_type="application/zip")

    return await answer(request, "studies", work)


_FORMS: Mapping[str, Callable[[dict[str, Any]], Response]] = {
    "html": lambda found: Response(
        report_page.page(found), headers=report_page.HEADERS, media_type="text/html"
    ),
    "json": json_response,
    "csv": lambda found: Response(report.as_csv(found), media_type="text/csv"),
}


def _list(engine: sa.Engine) -> list[dict[str, Any]]:
    return [_told(engine, study) for study in studies.all_of(engine)]


def _told(engine: sa.Engine, study: Study) -> dict[str, Any]:
    raters = []
    progress = studies.progress_of_all(engine, study.id)
    for rater in studies.raters_of(engine, study.id):
        found = progress[rater.id]
        raters.append(
            {
                **{k: v for k, v in asdict(rater).items() if k != "study"},
                "answered": len(found.answered),
                "total": found.total,
            }
        )
    names = ("labels", "generated", "real", "repeats")
    return {
        **{k: v for k, v in asdict(study).items() if k != "plan"},
        **{name: study.plan[name] for name in names},
        "sources": [one["source"] for one in study.plan["generators"]],
        "raters": raters,
    }


def _parts(files: list[File]) -> tuple[Plan, bytes | None]:
    """A set is recognised by its content, which is a zip's. Errors: EcgError."""
    sets = [bytes(file.content) for file in files if bytes(file.content[:2]) == b"PK"]
    plans = [bytes(file.content) for file in files if bytes(file.content[:2]) != b"PK"]
    if len(plans) != 1 or len(sets) > 1:
        raise UnservableError("must be one plan in JSON, and at most one real set as NPZ")
    return _read(plans[0], Plan), sets[0] if sets else None


def _read(body: bytes, kind: type[Asked]) -> Asked:
    """Errors: UnreadableError, UnservableError that names the field."""
    try:
        return kind.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise UnreadableError("not valid JSON") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            raise UnservableError(f"holds a field other than {known}") from None
        where = ".".join(str(part) for part in first["loc"])
        raise UnservableError(first["msg"].removeprefix("Value error, "), where) from None


async def _study(request: Request, id: str) -> Study:  # noqa: A002
    """Errors: Problem 404."""
    try:
        return await _in_thread(request, lambda engine: studies.find(engine, id))
    except LookupError:
        raise problems.no_such_study() from None


async def _closed(request: Request) -> Study:
    """The query's. Errors: Problem where there is none, or it is open."""
    study = await _study(request, request.query_params.get("study", ""))
    if study.closed is None:
        raise problems.study_open()
    return study


def _generators(request: Request) -> dict[str, Generator]:
    return {name: one.model for name, one in _engine(request).generations.items()}


def _engine(request: Request) -> Engine:
    return request.app.state.engine


def _rating(request: Request) -> Rating:
    return request.app.state.rating


async def _in_thread(request: Request, work: Callable[[sa.Engine], T]) -> T:
    """`work` with the database."""
    rating = _rating(request)
    return await asyncio.to_thread(lambda: rating(work))
