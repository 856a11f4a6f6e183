"""The HTTP edge: an ASGI app that BentoML serves. Endpoints are wiring; the work is elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.datastructures import QueryParams
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
from service import (
    classify,
    explaining,
    fhir,
    logs,
    metrics,
    openapi,
    pages,
    problems,
    synthesize,
    tracing,
    workers,
)
from service.answering import accepted, answer, at, extend, json_response, refused
from service.audit.trail import Audit
from service.batcher import QueueFull
from service.engine import Classification, Engine, Generation, chosen
from service.rating import endpoints as rating
from service.rating import owner
from service.rating.open import Rating
from service.settings import Settings
from service.wire.balance import Balance

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
        if settings.traces:
            app.state.tracing = tracing.Tracing(settings.traces, settings.traces_ratio)
        watching = asyncio.create_task(workers.watch())
        # What is alive now stays: collections need not look at it again, and run rarely.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if not settings.library_messages:
            logs.hush()  # from here on patients' data may be in what is said
        yield
        watching.cancel()
        engine.close()
        app.state.rating.close()
        if app.state.audit:
            await app.state.audit.close()
        if app.state.tracing:
            app.state.tracing.close()

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
    app.state.audit = app.state.tracing = None
    app.state.balance = Balance(settings.workers)
    app.state.rating = Rating(settings)
    app.post(
        "/classify",
        response_model=None,
        responses=openapi.CLASSIFY_RESPONSES,
        openapi_extra=openapi.of_models(openapi.CLASSIFY, settings.classifiers, "answers"),
        summary="Atrial-substrate status and SCP statements of 1 to 64 records",
    )(post_classify)
    app.post(
        "/print",
        response_model=None,
        response_class=Response,
        responses=openapi.PRINT_RESPONSES,
        openapi_extra=openapi.of_models(openapi.PRINT_BODY, settings.classifiers, "explains"),
        summary="The 12-lead print of a record, 25 mm/s and 10 mm/mV, as SVG or PNG",
    )(post_print)
    app.post(
        "/strip",
        response_model=None,
        response_class=Response,
        responses=openapi.STRIP_RESPONSES,
        openapi_extra=openapi.BODY,
        summary="A long record at a glance: its rhythm lead in rows of a minute to an hour, as SVG",
    )(post_strip)
    app.post(
        "/synthesize",
        response_model=None,
        responses=openapi.SYNTHESIZE_RESPONSES,
        openapi_extra=openapi.of_models(openapi.SYNTHESIZE, settings.generators, "generates"),
        summary="1 to 64 synthetic ECGs of given labels",
    )(post_synthesize)
    app.get(
        "/models",
        response_model=None,
        responses=openapi.MODELS_RESPONSES,
        summary="The model cards",
    )(get_models)
    rating.add_routes(app)
    owner.add_routes(app)
    pages.add_routes(app)
    openapi.complete(app)
    app.add_route("/{path:path}", anything_else, methods=_ALL_METHODS, include_in_schema=False)
    return app


def refuse_early(app: FastAPI, query: bytes) -> Response | None:
    """The answer to one more /classify, if it would only wait too long: before its body is read,
    so that what is too much costs little."""
    engine: Engine | None = getattr(app.state, "engine", None)
    if engine is None:
        return None
    try:
        name = QueryParams(query).get("model") if b"model" in query else None
        known = name if name in engine.classifications else None
        chosen(engine.classifications, known).batcher.check_room()
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
    name = _asked_model(request, engine.classifications)

    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any] | Response:
        served = chosen(engine.classifications, name)
        card = served.model.card
        fhir_version = fhir.asked(request)
        explained = explaining.asked(request.query_params.get("explain"))
        records = await _read(request, files, limit)
        given = records, card, served.batcher, engine.in_thread, at(limit)
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
        with tracing.span("write"):
            return await engine.in_thread(fhir.response, value, fhir_version)

    return await answer(request, "classify", work)


async def post_print(
    request: Request,
    record: Annotated[int, Query(ge=0, description="which of the body's records")] = 0,
    start_s: Annotated[
        Annotated[float, Field(ge=0)] | SkipJsonSchema[None],
        Query(description="where the print begins, else 0; see `explain`"),
    ] = None,
) -> Response:
    engine: Engine = request.app.state.engine

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        served = chosen(engine.classifications, request.query_params.get("model"))
        media_type = accepted(request, ("image/svg+xml", "image/png"))
        one = _record_of(await _read(request, files, limit), record)
        if start_s is not None and start_s >= one.duration_s:
            raise UnservableError("lies behind the end of the record", "start_s")
        shade: Shade | None = None
        begin_s = start_s or 0.0
        if explaining.asked(request.query_params.get("explain")):
            card = served.model.card
            request.state.model_sha256 = card.sha256
            shade, begin_s = await explaining.of_print(
                one, start_s, card, served.batcher, engine.in_thread, at(limit)
            )
        draw = print_png if media_type == "image/png" else print_svg
        with tracing.span("draw"):
            picture = await engine.in_thread(lambda: draw(one, start_s=begin_s, shade=shade))
        return Response(picture, media_type=media_type)

    return await answer(request, "print", work)


async def post_strip(
    request: Request,
    record: Annotated[int, Query(ge=0, description="which of the body's records")] = 0,
) -> Response:
    engine: Engine = request.app.state.engine

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        media_type = accepted(request, ("image/svg+xml",))
        one = _record_of(await _read(request, files, limit), record)
        with tracing.span("draw"):
            return Response(await engine.in_thread(strip_svg, one), media_type=media_type)

    return await answer(request, "strip", work)


def _asked_model(
    request: Request, served: Mapping[str, Classification] | Mapping[str, Generation]
) -> str | None:
    """What the query's `model` names, noted for the audit, whatever comes of the request."""
    name = request.query_params.get("model")
    if name is not None:
        request.state.model_sha256 = served[name].model.card.sha256 if name in served else None
    return name


def _record_of(records: list[Record], which: int) -> Record:
    if which >= len(records):
        raise UnservableError(f"there are only {len(records)} records in the body", "record")
    return records[which]


async def _read(request: Request, files: list[File], limit: asyncio.Timeout) -> list[Record]:
    """The records in the files, which are let go of, and a limit that allows for their length.
    Errors: EcgError."""
    formats, outcome = ["unknown"], "refused"
    try:
        with tracing.span("read"):
            records = await request.app.state.engine.read(files, _hints(request), formats.append)
        outcome = "read"
        tracing.note(n_records=len(records))
    finally:
        metrics.READS.labels(formats[-1], outcome).inc()
        tracing.note(format=formats[-1])
    files.clear()
    hours = sum(record.duration_s for record in records) / 3600
    extend(limit, hours * request.app.state.settings.timeout_per_hour_s)
    return records


async def post_synthesize(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    name = _asked_model(request, engine.generations)

    async def work(files: list[File], limit: asyncio.Timeout) -> dict[str, Any] | Response:
        if not engine.generations:
            raise problems.no_generator()
        served = chosen(engine.generations, name)
        card = served.model.card
        media_type = accepted(request, ("application/json", *synthesize.FORMATS))
        asked = synthesize.read_request(files[0].content)
        labels, order = synthesize.order(asked, card)
        if media_type in synthesize.OF_ONE and order.n > 1:
            raise UnservableError(f"must be 1 for {synthesize.OF_ONE[media_type]}", "n")
        sig = twelve_leads(await served.inflight(order))
        metrics.SEGMENTS.labels("synthesize", "answered").inc(order.n)
        generated = Generated(sig, card.fs, labels, order.seed)
        if media_type == "application/json":
            return synthesize.as_json(generated, card)
        with tracing.span("write"):
            content = await engine.in_thread(synthesize.FORMATS[media_type], generated)
        return Response(content, media_type=media_type)

    return await answer(request, "synthesize", work)


async def get_models(request: Request) -> Response:
    engine: Engine = request.app.state.engine

    async def work(files: list[File], limit: asyncio.Timeout) -> Response:
        return json_response({"models": [_described(*named) for named in engine.models.items()]})

    return await answer(request, "models", work)


def _hashes(engine: Engine) -> dict[str, str]:
    """The model that answers at an endpoint where none is named, by its SHA-256."""
    hashes = {"classify": chosen(engine.classifications, None).model.card.sha256}
    if engine.generations:
        hashes["synthesize"] = chosen(engine.generations, None).model.card.sha256
    return hashes


def _described(served_as: str, model: Classifier | Generator) -> dict[str, Any]:
    """The card, what chooses the model, where it runs, and its statements in words."""
    card = model.card
    words = {code: STATEMENTS[code].description for code in card.statements}
    more = {"served_as": served_as, "device": model.device, "descriptions": words}
    return {**card.model_dump(mode="json"), **more}


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
    return Hints(fs, names, units, request.app.state.settings.limits)


async def _bad_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])  # parameters that we named
    problem = problems.Problem(
        422, "bad-query", "A parameter does not fit", f"{where}: {first['msg']}"
    )
    return _refused(request, problem)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {404: problems.not_found(), 405: problems.wrong_method("another method")}
    problem = known.get(
        error.status_code,
        problems.Problem(
            error.status_code,
            "request",
            "The request does not fit",
            HTTPStatus(error.status_code).description,  # its own detail may quote the request
        ),
    )
    return problem.response(logs.new_request_id())
