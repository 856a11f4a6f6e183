"""The HTTP edge: an ASGI app that BentoML serves. Endpoints are wiring; the work is elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ecg.draw import print_png, print_svg
from ecg.errors import UnservableError
from ecg.formats import File, Hints
from ecg.generated import Generated, twelve_leads
from ecg.record import Record
from ecg.shading import Shade
from ecg.statements import STATEMENTS
from ecg.store import Classifier, Generator
from ecg.strip import strip_svg
from service import classify, explaining, fhir, logs, metrics, openapi, pages, problems, synthesize
from service.answering import accepted, answer, at, extend, json_response, refused
from service.audit import Audit
from service.balance import Balance
from service.batcher import QueueFull
from service.engine import Engine
from service.settings import Settings
from service.synthesize import SynthesizeRequest

FRAMEWORK_PATHS = ("/livez", "/healthz", "/readyz", "/metrics")
_ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app; its lifespan loads the models and empties the queue at the end."""
    settings = settings or Settings()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure()
        app.state.engine = engine = Engine.start(settings)
        app.state.audit = await Audit.start(
            settings, _hashes(engine), lambda: app.state.balance.at_once
        )
        # What is alive now stays: collections need not look at it again, and run rarely.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        yield
        engine.close()
        if app.state.audit:
            await app.state.audit.close()

    app = FastAPI(
        title="ECG-DiReNet",
        description=openapi.DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error, RequestValidationError: _bad_query},
    )
    app.state.settings = settings
    app.state.audit = None
    app.state.balance = Balance(settings.workers)
    app.post(
        "/classify",
        response_model=None,
        responses=openapi.CLASSIFY_RESPONSES,
        openapi_extra=openapi.CLASSIFY,
        summary="Atrial-substrate status and SCP statements of 1 to 64 records",
    )(post_classify)
    app.post(
        "/print",
        response_model=None,
        responses=openapi.PRINT_RESPONSES,
        openapi_extra=openapi.PRINT_BODY,
        summary="The 12-lead print of a record, 25 mm/s and 10 mm/mV, as SVG or PNG",
    )(post_print)
    app.post(
        "/strip",
        response_model=None,
        responses=openapi.STRIP_RESPONSES,
        openapi_extra=openapi.BODY,
        summary="A long record at a glance: its rhythm lead in rows of a minute to an hour, as SVG",
    )(post_strip)
    app.post(
        "/synthesize",
        response_model=None,
        responses=openapi.SYNTHESIZE_RESPONSES,
        openapi_extra=openapi.json_body(SynthesizeRequest),
        summary="1 to 64 synthetic ECGs of given labels",
    )(post_synthesize)
    app.get("/models", response_model=None, summary="The model cards")(get_models)
    pages.add_routes(app)
    app.add_route("/{path:path}", anything_else, methods=_ALL_METHODS, include_in_schema=False)
    return app


def refuse_early(app: FastAPI) -> Response | None:
    """The answer to one more /classify, if it would only wait too long: before its body is read,
    so that what is too much costs little."""
    engine: Engine | None = getattr(app.state, "engine", None)
    if engine is None:
        return None
    try:
        engine.batcher.check_room()
    except QueueFull as full:
        overloaded = problems.overloaded(full.retry_after_s)
        return refused("classify", overloaded, app.state.settings, app.state.audit)
    return None


async def classify_directly(app: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    """`POST /classify` without the routing and the middleware around it."""
    scope["app"] = app
    response = await post_classify(Request(scope, receive, send))
    await response(scope, receive, send)


async def post_classify(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    card = engine.classifier.card

    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any] | Response:
        fhir_version = fhir.asked(request)
        explained = explaining.asked(request.query_params.get("explain"))
        records = await _read(request, files, limit)
        given = records, card, engine.batcher, engine.in_thread, at(limit)
        if explained:
            at_most = request.app.state.settings.max_explained
            results = await explaining.answer(*given, at_most)
        else:
            results = await classify.answer(*given)
        value = {
            "research_use_only": True,
            "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
            "results": results,
        }
        if fhir_version is None:
            return value
        value["request_id"] = request.state.request_id
        if len(results) <= classify.FEW:
            return fhir.response(value, fhir_version)
        return await engine.in_thread(fhir.response, value, fhir_version)

    return await answer(request, "classify", work)


async def post_print(
    request: Request,
    record: Annotated[int, Query(ge=0, description="which of the body's records")] = 0,
    start_s: Annotated[
        float | None, Query(ge=0, description="where the print begins, else 0; see `explain`")
    ] = None,
) -> Response:
    engine: Engine = request.app.state.engine

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        media_type = accepted(request, ("image/svg+xml", "image/png"))
        chosen = _chosen(await _read(request, files, limit), record)
        if start_s is not None and start_s >= chosen.duration_s:
            raise UnservableError("lies behind the end of the record", "start_s")
        shade: Shade | None = None
        begin_s = start_s or 0.0
        if explaining.asked(request.query_params.get("explain")):
            request.state.model_sha256 = engine.classifier.card.sha256
            shade, begin_s = await explaining.of_print(
                chosen, start_s, engine.classifier.card, engine.batcher, engine.in_thread, at(limit)
            )
        draw = print_png if media_type == "image/png" else print_svg
        picture = await engine.in_thread(lambda: draw(chosen, start_s=begin_s, shade=shade))
        return Response(picture, media_type=media_type)

    return await answer(request, "print", work)


async def post_strip(
    request: Request,
    record: Annotated[int, Query(ge=0, description="which of the body's records")] = 0,
) -> Response:
    engine: Engine = request.app.state.engine

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        media_type = accepted(request, ("image/svg+xml",))
        chosen = _chosen(await _read(request, files, limit), record)
        return Response(await engine.in_thread(strip_svg, chosen), media_type=media_type)

    return await answer(request, "strip", work)


def _chosen(records: list[Record], which: int) -> Record:
    if which >= len(records):
        raise UnservableError(f"there are only {len(records)} records in the body", "record")
    return records[which]


async def _read(request: Request, files: list[File], limit: asyncio.Timeout) -> list[Record]:
    """The records in the files, which are let go of, and a limit that allows for their length.
    Errors: EcgError."""
    records = await request.app.state.engine.read(files, _hints(request))
    files.clear()
    hours = sum(record.duration_s for record in records) / 3600
    extend(limit, hours * request.app.state.settings.timeout_per_hour_s)
    return records


async def post_synthesize(request: Request) -> Response:
    engine: Engine = request.app.state.engine

    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any] | Response:
        if engine.generation is None:
            raise problems.no_generator()
        card, inflight = engine.generation.generator.card, engine.generation.inflight
        media_type = accepted(request, ("application/json", *synthesize.FORMATS))
        asked = synthesize.read_request(files[0].content)
        labels, order = synthesize.order(asked, card)
        if media_type in synthesize.OF_ONE and order.n > 1:
            raise UnservableError(f"must be 1 for {synthesize.OF_ONE[media_type]}", "n")
        sig = twelve_leads(await inflight(order))
        metrics.SEGMENTS.labels("synthesize", "answered").inc(order.n)
        generated = Generated(sig, card.fs, labels, order.seed)
        if media_type == "application/json":
            return synthesize.as_json(generated, card)
        content = await engine.in_thread(synthesize.FORMATS[media_type], generated)
        return Response(content, media_type=media_type)

    return await answer(request, "synthesize", work)


async def get_models(request: Request) -> Response:
    engine: Engine = request.app.state.engine

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        return json_response({"models": [_described(m) for m in engine.models]})

    return await answer(request, "models", work)


def _hashes(engine: Engine) -> dict[str, str]:
    """The model that answers at an endpoint, by its SHA-256."""
    endpoints = ("classify", "synthesize")
    return {e: m.card.sha256 for e, m in zip(endpoints, engine.models, strict=False)}


def _described(model: Classifier | Generator) -> dict[str, Any]:
    """The card, where the model runs, and its statements in words."""
    card = model.card
    words = {code: STATEMENTS[code].description for code in card.statements}
    return {**card.model_dump(mode="json"), "device": model.device, "descriptions": words}


async def anything_else(request: Request) -> Response:
    """404, or 405 for a known path; the framework's routes come before this one."""
    path = request.url.path
    problem = problems.not_found()
    if path in FRAMEWORK_PATHS:
        problem = problems.wrong_method("GET")
    else:
        methods = {
            method
            for route in request.app.routes
            if getattr(route, "path", "") == path
            for method in getattr(route, "methods", None) or ()
        }
        if methods:
            problem = problems.wrong_method(", ".join(sorted(methods)))
            return _refused(request, problem)
    return problem.response(logs.new_request_id())


def _refused(request: Request, problem: problems.Problem) -> Response:
    """As of an endpoint, for the metrics and the audit."""
    endpoint = request.url.path.strip("/")
    state = request.app.state
    return refused(endpoint, problem, state.settings, state.audit)


def _hints(request: Request) -> Hints:
    fs, leads, units = (request.query_params.get(name) for name in ("fs", "leads", "units"))
    names = tuple(leads.split(",")) if leads else None
    return Hints(fs, names, units, request.app.state.settings.max_unpacked)


async def _bad_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    problem = problems.Problem(
        422, "bad-query", "A parameter does not fit", f"{where}: {first['msg']}"
    )
    return _refused(request, problem)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {404: problems.not_found(), 405: problems.wrong_method("another method")}
    problem = known.get(
        error.status_code,
        problems.Problem(error.status_code, "request", "The request does not fit", error.detail),
    )
    return problem.response(logs.new_request_id())
