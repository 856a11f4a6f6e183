"""HTTP/1.1 as uvicorn reads it, and what it leaves open: heads are bounded in size and in time,
what follows an answered request is not read for ever, and what is ambiguous is refused.

A reverse proxy and this service must agree where a request ends, or a client could hide one in
another's body. llhttp refuses most of what two servers could understand in two ways (a length
beside chunks, two lengths, folded fields, bare line feeds); what it lets through is refused here:
codings besides `chunked`, chunks in HTTP/1.0, and none or several `Host`.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import logs, metrics, problems
from service.problems import Problem
from service.settings import Settings

_FIELD = 4  # bytes around a header field's name and value


def serve_with(settings: Settings) -> None:
    """Let uvicorn, whose options are BentoML's to choose, speak HTTP as below."""
    Protocol.max_head = settings.max_head
    Protocol.timeout_head_s = settings.timeout_head_s
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{Protocol.__module__}:{Protocol.__name__}"


class Protocol(HttpToolsProtocol):
    """A connection. Until a request's head is complete, its bytes are counted and its time runs; so
    does the time of a body that goes on after its answer."""

    max_head: ClassVar[int] = 64 * 1024
    timeout_head_s: ClassVar[float] = 20.0
    _in_head = True
    _whole = True  # the request was read to its end
    _head_bytes = 0  # of a head that came in several pieces
    _timer: asyncio.TimerHandle | None = None
    _refusal: Problem | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.max_head:
            self._refuse(problems.head_too_large(self.max_head))
        elif self._timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._whole = True, False
        self._head_bytes = 0

    def on_message_complete(self) -> None:
        self._whole = True
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._whole and not self.transport.is_closing():
            # closed at once, the answer might be lost with what is still on its way here
            self._timer = self.loop.call_later(self.timeout_head_s, self.transport.close)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        self._refusal = self._wrong()
        if self._refusal is not None:
            raise ValueError  # the parser stops, and `send_400_response` is called
        super().on_headers_complete()

    def _wrong(self) -> Problem | None:
        """What is wrong with a head that is complete."""
        size, n_hosts, coded = len(self.url), 0, False
        for name, value in self.headers:
            size += len(name) + len(value) + _FIELD
            if name == b"host":
                n_hosts += 1
            elif name == b"transfer-encoding":
                coded = True
                if value.strip().lower() != b"chunked":
                    return problems.malformed("Transfer-Encoding may be chunked, and nothing else")
        if size > self.max_head:
            return problems.head_too_large(self.max_head)
        assert self.parser is not None
        modern = self.parser.get_http_version() == "1.1"
        if coded and not modern:
            return problems.malformed("HTTP/1.0 knows no Transfer-Encoding: send a Content-Length")
        if n_hosts != 1 and (modern or n_hosts):
            return problems.malformed("one Host field is needed, and no more")
        return None

    def send_400_response(self, msg: str) -> None:
        """Called where the parser fails."""
        self._refuse(self._refusal or problems.malformed())

    def _refuse(self, problem: Problem) -> None:
        """Answer, and close: where the next request begins is not known."""
        self._stop_timer()
        metrics.PROBLEMS.labels("http", problem.kind).inc()
        response = problem.response(logs.new_request_id())
        response.headers["Connection"] = "close"
        fields = b"".join(b"%s: %s\r\n" % field for field in response.raw_headers)
        head = f"HTTP/1.1 {problem.status} {problem.title}\r\n".encode()
        self.transport.write(head + fields + b"\r\n" + bytes(response.body))
        self.transport.close()

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """There is nothing to upgrade to, and the request is answered as it is."""

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.timeout_head_s, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._head_bytes:
            self._refuse(problems.head_too_slow(self.timeout_head_s))
        else:  # a connection kept in reserve: no request, no answer
            self.transport.close()
