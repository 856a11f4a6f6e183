"""Told to stop, a worker leaves without dropping a request.

At SIGTERM uvicorn closes its listening socket and the idle connections at once: whoever sends
requests, a proxy say, learns it from the requests that break. Here a worker first says 503 at
/readyz, goes on answering for `drain_s`, each answer with `Connection: close`, and stops when those
that came until then have their answers. Whoever asks /readyz more often than that loses nothing.
SIGINT stops as before.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs, problems

READY = "/readyz"
_CLOSE = (b"connection", b"close")
_LOOK_S = 0.05  # how often it is looked whether all have their answers


class Draining:
    """The ASGI app `app`, as `drain_s` says: 0 stops as uvicorn does."""

    def __init__(self, app: ASGIApp, drain_s: float) -> None:
        self.app, self.drain_s = app, drain_s
        self._unanswered: set[object] = set()
        self._told = False
        self._leaving: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._started(send))
        elif scope["type"] != "http" or self.drain_s <= 0:
            await self.app(scope, receive, send)
        elif self._told and scope["path"] == READY:
            response = problems.stopping().response(logs.new_request_id())
            await response(scope, receive, self._closing(send))
        else:
            request = object()
            self._unanswered.add(request)
            try:
                await self.app(scope, receive, self._closing(send))
            finally:
                self._unanswered.discard(request)

    def _started(self, send: Send) -> Send:
        """`send`, which from the end of the start on has SIGTERM come here first."""

        async def sent(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete" and self.drain_s > 0:
                self._listen(asyncio.get_running_loop())

        return sent

    def _closing(self, send: Send) -> Send:
        """`send`, which closes the connection after the answer once the worker is to stop."""

        async def sent(message: Message) -> None:
            if self._told and message["type"] == "http.response.start":
                others = (h for h in message.get("headers", ()) if h[0].lower() != _CLOSE[0])
                message = {**message, "headers": [*others, _CLOSE]}
            await send(message)

        return sent

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        stop = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(stop):
            return

        def told(number: int, frame: FrameType | None) -> None:
            if not self._told:  # a supervisor may say it twice
                self._told = True
                loop.call_soon_threadsafe(leave)

        def leave() -> None:
            self._leaving = loop.create_task(self._leave())
            self._leaving.add_done_callback(lambda _: stop(signal.SIGTERM, None))

        signal.signal(signal.SIGTERM, told)

    async def _leave(self) -> None:
        """Until `drain_s` are over and what had come by then is answered; what comes meanwhile is
        served too, and uvicorn waits for that."""
        logs.event("draining", seconds=self.drain_s, unanswered=len(self._unanswered))
        await asyncio.sleep(self.drain_s)
        come = set(self._unanswered)
        while come & self._unanswered:
            await asyncio.sleep(_LOOK_S)
        logs.event("drained", unanswered=len(self._unanswered))
