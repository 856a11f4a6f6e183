"""An adaptive batcher: what many requests ask for shares runs, and nothing else.

A batch starts when a run is free and the queue can fill it, or its first request has waited long
enough, or nothing else is running. It counts segments, not requests. Requests take turns, an item
each, so that a day-long recording does not keep a ten-second one waiting. Requests that were
cancelled or whose deadline has passed leave the queue without being run. If a run fails, each
request's part is run again alone, so that one cannot fail another.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from service import metrics, tracing

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):
    """No room; `retry_after_s` estimates when there will be."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class ModelFailed(Exception):
    """The model gave no finite answer for this request."""


@dataclass(eq=False)
class _Job(Generic[Item, Result]):
    """One request's items, of so many segments each; `next` is the first not yet in a batch."""

    items: Sequence[Item]
    sizes: Sequence[int]
    future: asyncio.Future[list[Result]]
    arrived: float
    results: list[Result | None]
    trace: tracing.Trace | None
    asked: float  # as `arrived`, but on the clock of the traces, which is finer
    next: int = 0
    done: int = 0

    @property
    def waiting(self) -> int:
        """Segments."""
        return sum(self.sizes[self.next :])


class Batcher(Generic[Item, Result]):
    """Runs `run(items) -> results`, one an item, in `threads` threads.

    Args:
        before: what the loop itself does to a batch's items, which should be quick.
        max_batch: segments a run; no item may have more.
        max_wait_s: that a batch may wait to fill up while another runs.
        max_queue: segments that may wait; max_delay_s: that a request may have to wait, estimated.
        max_here: segments that the loop runs itself where nothing else runs or waits.
    """

    def __init__(
        self,
        model: str,
        run: Callable[[Sequence[Item]], list[Result]],
        *,
        before: Callable[[Sequence[Item]], Sequence[Item]] = lambda items: items,
        threads: int,
        max_batch: int,
        max_wait_s: float,
        max_queue: int,
        max_delay_s: float,
        max_here: int = 0,
    ) -> None:
        self.model, self._run, self._before, self._threads = model, run, before, threads
        self.max_batch = max_batch
        self._max_wait_s, self._max_queue, self._max_delay_s = max_wait_s, max_queue, max_delay_s
        self._max_here = max_here
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"run-{model}")
        self._queue: deque[_Job[Item, Result]] = deque()
        self._queued = 0
        self._running = 0
        self._segment_s = 0.001  # of one thread, a moving average
        self._timer: asyncio.TimerHandle | None = None
        self._batch_size = metrics.BATCH_SIZE.labels(model)
        self._queue_s = metrics.QUEUE_SECONDS.labels(model)
        self._inference_s = metrics.INFERENCE_SECONDS.labels(model)
        self._gauge = metrics.QUEUED.labels(model)

    async def __call__(
        self,
        items: Sequence[Item],
        sizes: Sequence[int],
        deadline: float,
        admitted: bool = False,
    ) -> list[Result]:
        """A result an item, in their order.

        sizes: segments of each item; deadline: on the loop's clock; admitted: room is not asked
        for, since these are part of what was let in before. Cancelling the call takes its items out
        of the queue. Errors: QueueFull; TimeoutError past the deadline; ModelFailed.
        """
        if not admitted:
            self.check_room(sum(sizes))
        loop = asyncio.get_running_loop()
        job = _Job(
            items,
            sizes,
            loop.create_future(),
            loop.time(),
            [None] * len(items),
            tracing.current(),
            time.perf_counter(),
        )
        self._queue.append(job)
        self._count(sum(sizes))
        expiry = loop.call_at(deadline, self._expire, job)
        loop.call_soon(self._pump)
        try:
            return await job.future
        finally:
            expiry.cancel()
            self._forget(job)

    def check_room(self, n: int = 1) -> None:
        """Errors: QueueFull where a request of n segments would overfill the queue, or wait too
        long in it. One that finds it empty is always let in."""
        if not self._queued:
            return
        # In turns, others go first with as much as this one has.
        before = len(self._queue) if n == 1 else sum(min(n, job.waiting) for job in self._queue)
        delay_s = (before + n) * self._segment_s / self._threads
        if self._queued + n > self._max_queue or delay_s > self._max_delay_s:
            raise QueueFull(delay_s)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _pump(self) -> None:
        """Start as many batches as there are free threads and reasons to."""
        loop = asyncio.get_running_loop()
        while self._queue and self._running < self._threads:
            first = self._queue[0].arrived
            ripe = (
                self._running == 0
                or self._queued >= self.max_batch
                or loop.time() - first >= self._max_wait_s
            )
            if not ripe:
                if self._timer is None:
                    self._timer = loop.call_at(first + self._max_wait_s, self._wake)
                return
            self._running += 1
            self._start(self._take())

    def _wake(self) -> None:
        self._timer = None
        self._pump()

    def _take(self) -> list[tuple[_Job[Item, Result], int]]:
        """The next batch: jobs and which of their items, an item a turn."""
        batch: list[tuple[_Job[Item, Result], int]] = []
        room = self.max_batch
        now = time.perf_counter()
        while self._queue and (size := self._queue[0].sizes[self._queue[0].next]) <= room:
            job = self._queue.popleft()
            if job.next == 0:
                self._queue_s.observe(now - job.asked)
                if job.trace:
                    n = sum(job.sizes)
                    job.trace.add("queue", job.asked, now, model=self.model, n_segments=n)
            batch.append((job, job.next))
            job.next += 1
            room -= size
            self._count(-size)
            if job.next < len(job.items):
                self._queue.append(job)
        return batch

    def _start(self, batch: list[tuple[_Job[Item, Result], int]]) -> None:
        """Run in a thread, or here: a small batch of which all that waits is part is served sooner
        than a thread would come to it."""
        loop = asyncio.get_running_loop()
        started = time.perf_counter()

        def timed_run(items: Sequence[Item]) -> tuple[list[Result], float]:
            return self._run(items), time.perf_counter()

        n = sum(job.sizes[i] for job, i in batch)
        here: asyncio.Future[tuple[list[Result], float]] = loop.create_future()
        try:
            items = self._before([job.items[i] for job, i in batch])
            if self._running > 1 or self._queue or n > self._max_here:
                ran = loop.run_in_executor(self._pool, timed_run, items)
                ran.add_done_callback(lambda ran: self._ended(batch, started, ran))
                return
            here.set_result(timed_run(items))
        except Exception as error:
            here.set_exception(error)
        self._ended(batch, started, here)

    def _ended(
        self,
        batch: list[tuple[_Job[Item, Result], int]],
        started: float,
        ran: asyncio.Future[tuple[list[Result], float]],
    ) -> None:
        self._running -= 1
        if ran.cancelled():
            return
        if ran.exception() is None:
            results, ended = ran.result()
            seconds = ended - started
            n = sum(job.sizes[i] for job, i in batch)
            tracing.ran(self.model, n, started, ended, (job.trace for job, _ in batch))
            self._batch_size.observe(n)
            self._inference_s.observe(seconds)
            self._segment_s += 0.1 * (seconds / n - self._segment_s)
            for (job, i), result in zip(batch, results, strict=True):
                self._deliver(job, i, result)
        else:
            self._separate(batch)
        self._pump()

    def _separate(self, batch: list[tuple[_Job[Item, Result], int]]) -> None:
        """Of a batch that failed, each request's part once more alone; a lone request fails."""
        jobs = {id(job): job for job, _ in batch}
        if len(jobs) == 1:
            self._fail(batch[0][0])
            return
        for job in jobs.values():
            self._running += 1
            self._start([(other, i) for other, i in batch if other is job])

    def _deliver(self, job: _Job[Item, Result], i: int, result: Result) -> None:
        job.results[i] = result
        job.done += 1
        if job.done == len(job.items) and not job.future.done():
            job.future.set_result(job.results)  # type: ignore[arg-type]  # none is left out

    def _fail(self, job: _Job[Item, Result]) -> None:
        if not job.future.done():
            job.future.set_exception(ModelFailed())
        self._forget(job)

    def _expire(self, job: _Job[Item, Result]) -> None:
        if not job.future.done():
            job.future.set_exception(TimeoutError())
        self._forget(job)

    def _forget(self, job: _Job[Item, Result]) -> None:
        """Out of the queue, whatever of it is still there."""
        if waiting := job.waiting:
            self._queue.remove(job)
            self._count(-waiting)
            job.next = len(job.items)

    def _count(self, n: int) -> None:
        self._queued += n
        self._gauge.set(self._queued)
