"""Traces of requests, for an OpenTelemetry collector; nothing at all where none is named.

A request's span continues the client's trace, if its `traceparent` names one, and has children:
`receive`, `read`, `queue`, `model`, `draw`, `write`. A model run serves many requests at once: it
is a trace of its own, `run`, linked to every request in it, whose `model` spans are linked back.

Of a request a span says the endpoint, the status, the kind of problem, its id, its format and how
much it was: nothing of its query, its headers, its files' names or what is in them. So BentoML's
own spans, which hold the URL, are left out (`service.framework`), and so is what else a client may
send along with its trace (`tracestate`, `baggage`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import logs, metrics

MAX_SPANS = 128  # of a request: a day-long record is judged in a thousand runs
MAX_WAITING = 4096  # spans; what is too much for the collector is lost, and counted
EVERY_MS = 2000  # spans are sent, or sooner where many wait
EXPORT_S = 5.0  # that a collector may take
Value = str | int | float

_current: ContextVar[Trace | None] = ContextVar("trace", default=None)
_NOTHING = contextlib.nullcontext()
_PROPAGATOR = TraceContextTextMapPropagator()


def current() -> Trace | None:
    """The trace of the request that is being answered here, if it is recorded."""
    return _current.get()


def span(name: str, **attributes: Value) -> AbstractContextManager[None]:
    """`with span("draw"):` is a child of the request's span, where it is recorded."""
    trace = _current.get()
    return _NOTHING if trace is None else trace.timed(name, **attributes)


def note(**attributes: Value) -> None:
    """Attributes of the request's span, named as in `ecg.NAME`."""
    if trace := _current.get():
        trace.note(**attributes)


class Trace:
    """What is recorded of one request. Times are of `time.perf_counter`, in seconds."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span
        self._context = set_span_in_context(span, Context())
        self._epoch_ns = _epoch_ns()
        self._n_spans = 0
        self._token = _current.set(self)

    @property
    def id(self) -> str:
        return format_trace_id(self._span.get_span_context().trace_id)

    def note(self, **attributes: Value) -> None:
        self._span.set_attributes(_named(attributes))

    def add(
        self, name: str, begin: float, end: float, link: Link | None = None, /, **attributes: Value
    ) -> None:
        """A child that is over."""
        self._n_spans += 1
        if self._n_spans <= MAX_SPANS:
            child = self._tracer.start_span(
                name,
                self._context,
                attributes=_named(attributes),
                links=[link] if link else (),
                start_time=self._epoch_ns + int(begin * 1e9),
            )
            child.end(self._epoch_ns + int(end * 1e9))

    @contextlib.contextmanager
    def timed(self, name: str, **attributes: Value) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, begin, time.perf_counter(), **attributes)

    def end(self, status: int, problem: str | None) -> None:
        """problem: its kind."""
        self._span.set_attribute("http.response.status_code", status)
        if problem:
            self._span.set_attribute("error.type", problem)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        if self._n_spans > MAX_SPANS:
            self.note(spans_left_out=self._n_spans - MAX_SPANS)
        self._span.end()
        _current.reset(self._token)

    @property
    def link(self) -> Link:
        return Link(self._span.get_span_context())

    def run(self, served: Sequence[Trace], begin: float, end: float, **attributes: Value) -> Link:
        """The trace of a model run that served these requests, this one too; a link to it."""
        ran = self._tracer.start_span(
            "run",
            Context(),
            attributes=_named(attributes),
            links=[trace.link for trace in served],
            start_time=self._epoch_ns + int(begin * 1e9),
        )
        ran.end(self._epoch_ns + int(end * 1e9))
        return Link(ran.get_span_context())


def ran(
    model: str, n_segments: int, begin: float, end: float, traces: Iterable[Trace | None]
) -> None:
    """A model run of so many segments, which are of these requests, each named once or more."""
    recorded = list(dict.fromkeys(trace for trace in traces if trace))
    if recorded:
        link = recorded[0].run(recorded, begin, end, model=model, n_segments=n_segments)
        for trace in recorded:
            trace.add("model", begin, end, link, model=model, batch_segments=n_segments)


class Tracing:
    """A worker's: what chooses, keeps and sends its spans."""

    def __init__(self, url: str, ratio: float) -> None:
        """url: of the collector, OTLP over HTTP, as `http://collector:4318`; ratio: of the requests
        whose client has not said whether they are to be recorded."""
        # Their messages hold nothing that the metric and `_Counted`'s two events do not say.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _Counted(url)
        self._processor = _Bounded(self._exporter)
        whole = Resource.create(
            {
                "service.name": "ecg-direnet",
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )
        chosen = TracerProvider(ParentBased(TraceIdRatioBased(ratio)), whole, False)
        recorded = TracerProvider(ALWAYS_ON, whole, False)  # what belongs to a chosen request
        for provider in (chosen, recorded):
            provider.add_span_processor(self._processor)
        self._chooses = chosen.get_tracer("ecg-direnet")
        self._records = recorded.get_tracer("ecg-direnet")

    def begin(self, endpoint: str, request_id: str, traceparent: str | None) -> Trace | None:
        """The trace of a request, until its `end`; None where it is not recorded."""
        carrier = {"traceparent": traceparent} if traceparent else {}
        span = self._chooses.start_span(
            f"POST /{endpoint}",
            _PROPAGATOR.extract(carrier, Context()),
            SpanKind.SERVER,
            {
                "http.request.method": "POST",
                "http.route": f"/{endpoint}",
                "request_id": request_id,
            },
        )
        return Trace(self._records, span) if span.is_recording() else None

    def close(self) -> None:
        """What waits is sent, unless the collector is away."""
        self._exporter.closing = True
        self._processor.shutdown()


class _Counted(SpanExporter):
    """OTLP over HTTP; what became of the spans is counted, and a collector that goes away or comes
    back is said once."""

    def __init__(self, url: str) -> None:
        # here, since nothing of it is needed without a collector
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._sends = OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_S)
        self._sent, self._failed = metrics.SPANS.labels("sent"), metrics.SPANS.labels("failed")
        self._away = False
        self.taken = 0
        self.closing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        if self.closing and self._away:
            sent = SpanExportResult.FAILURE
        else:
            sent = self._sends.export(spans)
        away = sent is not SpanExportResult.SUCCESS
        (self._failed if away else self._sent).inc(len(spans))
        if away != self._away:
            logs.event("collector away" if away else "collector back")
            self._away = away
        return sent

    def shutdown(self) -> None:
        self._sends.shutdown()


class _Bounded(BatchSpanProcessor):
    """Keeps at most MAX_WAITING spans for the exporter's thread; counts those that it lost."""

    def __init__(self, exporter: _Counted) -> None:
        super().__init__(exporter, max_queue_size=MAX_WAITING, schedule_delay_millis=EVERY_MS)
        self._counted = exporter
        self._lost = metrics.SPANS.labels("lost")
        self._n_kept = 0

    def on_end(self, span: ReadableSpan) -> None:
        if self._n_kept - self._counted.taken < MAX_WAITING:
            self._n_kept += 1
            super().on_end(span)
        else:
            self._lost.inc()


def _named(attributes: dict[str, Value]) -> dict[str, Value]:
    return {f"ecg.{name}": value for name, value in attributes.items()}


def _epoch_ns() -> int:
    """What to add to `time.perf_counter` for the time of day, in ns."""
    return time.time_ns() - time.perf_counter_ns()
