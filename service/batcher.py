"""An adaptive batcher: segments of many requests share model runs, and nothing else.

A batch starts when a run is free and the queue can fill it, or its oldest segment has waited long
enough, or nothing else is running. It counts segments, not requests: a large request is split over
batches and small ones share one. Requests that were cancelled or whose deadline has passed leave
the queue without being run. If a run fails, each request's part is run again alone, so that one
cannot fail another.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from service import metrics

Run = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class QueueFull(Exception):
    """No room; `retry_after_s` estimates when there will be."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class ModelFailed(Exception):
    """The model gave no finite answer for this request."""


@dataclass(eq=False)
class _Job:
    """One request's segments; `next` is the first that is not yet in a batch."""

    sig: np.ndarray
    lead_mask: np.ndarray
    n_valid: np.ndarray
    future: asyncio.Future[np.ndarray]
    deadline: float
    arrived: float
    next: int = 0
    done: int = 0
    out: list[tuple[int, np.ndarray]] = field(default_factory=list)

    @property
    def dead(self) -> bool:
        return self.future.done()

    @property
    def waiting(self) -> int:
        return len(self.sig) - self.next


_Piece = tuple[_Job, slice]


class Batcher:
    """Runs `run(sig, lead_mask, n_valid) -> [segment, output]` in `threads` threads."""

    def __init__(
        self,
        model: str,
        run: Run,
        *,
        threads: int,
        max_batch: int,
        max_wait_s: float,
        max_queue: int,
    ) -> None:
        self._run, self._threads = run, threads
        self._max_batch, self._max_wait_s, self._max_queue = max_batch, max_wait_s, max_queue
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"run-{model}")
        self._queue: deque[_Job] = deque()
        self._queued = 0
        self._running = 0
        self._segment_s = 0.01  # of one thread, a moving average
        self._timer: asyncio.TimerHandle | None = None
        self._batch_size = metrics.BATCH_SIZE.labels(model)
        self._queue_s = metrics.QUEUE_SECONDS.labels(model)
        self._inference_s = metrics.INFERENCE_SECONDS.labels(model)
        self._gauge = metrics.QUEUED.labels(model)

    async def __call__(
        self, sig: np.ndarray, lead_mask: np.ndarray, n_valid: np.ndarray, deadline: float
    ) -> np.ndarray:
        """float32 [segment, output] for segments as `ecg.prepare.cut` leaves them.

        deadline: on the loop's clock. Cancelling the call takes its segments out of the queue.
        Errors: QueueFull; TimeoutError past the deadline; ModelFailed.
        """
        loop = asyncio.get_running_loop()
        # A request larger than the whole queue is still served when nothing waits before it.
        if self._queued and self._queued + len(sig) > self._max_queue:
            raise QueueFull(self._queued * self._segment_s / self._threads)
        job = _Job(sig, lead_mask, n_valid, loop.create_future(), deadline, loop.time())
        self._queue.append(job)
        self._count(len(sig))
        expiry = loop.call_at(deadline, self._expire, job)
        self._pump()
        try:
            return await job.future
        finally:
            expiry.cancel()
            self._forget(job)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _pump(self) -> None:
        """Start as many batches as there are free threads and reasons to."""
        loop = asyncio.get_running_loop()
        while self._queue and self._running < self._threads:
            oldest = self._queue[0].arrived
            ripe = (
                self._running == 0
                or self._queued >= self._max_batch
                or loop.time() - oldest >= self._max_wait_s
            )
            if not ripe:
                if self._timer is None:
                    self._timer = loop.call_at(oldest + self._max_wait_s, self._wake)
                return
            if pieces := self._take():
                self._running += 1
                loop.create_task(self._serve(pieces))

    def _wake(self) -> None:
        self._timer = None
        self._pump()

    def _take(self) -> list[_Piece]:
        """The next batch, oldest first."""
        pieces: list[_Piece] = []
        room = self._max_batch
        now = asyncio.get_running_loop().time()
        while self._queue and room:
            job = self._queue[0]
            n = min(room, job.waiting)
            if job.next == 0:
                self._queue_s.observe(now - job.arrived)
            pieces.append((job, slice(job.next, job.next + n)))
            job.next += n
            room -= n
            self._count(-n)
            if job.waiting == 0:
                self._queue.popleft()
        return pieces

    async def _serve(self, pieces: list[_Piece]) -> None:
        try:
            await self._attempt(pieces)
        finally:
            self._running -= 1
            self._pump()

    async def _attempt(self, pieces: list[_Piece]) -> None:
        loop = asyncio.get_running_loop()
        try:
            out, seconds = await loop.run_in_executor(self._pool, self._timed_run, pieces)
        except Exception:
            if len(pieces) == 1:
                self._fail(pieces[0][0])
                return
            for piece in pieces:
                await self._attempt([piece])
            return
        self._batch_size.observe(len(out))
        self._inference_s.observe(seconds)
        self._segment_s += 0.1 * (seconds / len(out) - self._segment_s)
        start = 0
        for job, rows in pieces:
            part = out[start : start + rows.stop - rows.start]
            start += len(part)
            self._deliver(job, rows.start, part)

    def _timed_run(self, pieces: list[_Piece]) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        if len(pieces) == 1:
            job, rows = pieces[0]
            arrays = (job.sig[rows], job.lead_mask[rows], job.n_valid[rows])
        else:
            arrays = (
                np.concatenate([job.sig[rows] for job, rows in pieces]),
                np.concatenate([job.lead_mask[rows] for job, rows in pieces]),
                np.concatenate([job.n_valid[rows] for job, rows in pieces]),
            )
        out = self._run(*arrays)
        return out, time.perf_counter() - started

    def _deliver(self, job: _Job, start: int, part: np.ndarray) -> None:
        if job.dead:
            return
        if not np.isfinite(part).all():
            self._fail(job)
            return
        job.out.append((start, part))
        job.done += len(part)
        if job.done == len(job.sig):
            job.future.set_result(np.concatenate([p for _, p in sorted(job.out, key=_first)]))

    def _fail(self, job: _Job) -> None:
        if not job.dead:
            job.future.set_exception(ModelFailed())
        self._forget(job)

    def _expire(self, job: _Job) -> None:
        if not job.dead:
            job.future.set_exception(TimeoutError())
        self._forget(job)

    def _forget(self, job: _Job) -> None:
        """Out of the queue, whatever of it is still there."""
        if job.waiting:
            self._queue.remove(job)
            self._count(-job.waiting)
            job.next = len(job.sig)

    def _count(self, n: int) -> None:
        self._queued += n
        self._gauge.set(self._queued)


def _first(piece: tuple[int, np.ndarray]) -> int:
    return piece[0]
