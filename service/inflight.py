"""In-flight batching of a sampler: rows at different steps share a call of the network.

A new row joins at the next call instead of waiting for running ones to end, and a cancelled one
leaves at the next call. A row's noise is its own, so an answer does not depend on its company. A
guided row takes two places in a call, with its labels and without.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ecg.sampler import Course, advance, course, estimates
from ecg.sampling import prior
from ecg.store import Generator
from service import metrics, tracing
from service.batcher import ModelFailed, QueueFull


@dataclass(frozen=True)
class Order:
    """n ECGs of one label vector: what an answer depends on, and all that it does."""

    n: int
    labels: np.ndarray
    seed: int
    guidance_scale: float
    num_steps: int


@dataclass(eq=False)
class _Row:
    order: Order
    course: Course
    x: np.ndarray
    future: asyncio.Future[np.ndarray]
    trace: tracing.Trace | None
    asked: float
    step: int = 0
    previous: np.ndarray | None = None

    @property
    def width(self) -> int:
        """Places in the next call."""
        return int(self.course.places[self.step])

    @property
    def finished(self) -> bool:
        return self.step == len(self.course.places)


class InFlight:
    """Serves Orders with `threads` parallel calls of at most `max_places` places each."""

    def __init__(
        self,
        generator: Generator,
        name: str | None = None,
        *,
        threads: int,
        max_places: int,
        max_waiting: int,
    ) -> None:
        """`name`: the metrics' for it, else the card's."""
        self._generator, self._diffusion = generator, generator.card.diffusion
        self._threads, self._max_places, self._max_waiting = threads, max_places, max_waiting
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="denoise")
        self._rows: deque[_Row] = deque()
        self._held = 0  # rows accepted and not yet answered, in a call or between calls
        self._calls = 0
        self._row_s = 0.05  # of one row from start to end at full load, a moving average
        self._model = name = name or generator.card.name
        self._batch_size = metrics.BATCH_SIZE.labels(name)
        self._queue_s = metrics.QUEUE_SECONDS.labels(name)
        self._inference_s = metrics.INFERENCE_SECONDS.labels(name)
        self._gauge = metrics.QUEUED.labels(name)

    async def __call__(self, order: Order) -> np.ndarray:
        """float32 mV [n, 8, n_samples]. Cancelling frees the rows at the next call.

        Errors: QueueFull; ModelFailed.
        """
        if self._held and self._held + order.n > self._max_waiting:
            raise QueueFull(self._held * self._row_s / self._threads)
        loop = asyncio.get_running_loop()
        trace, asked = tracing.current(), time.perf_counter()
        way = course(self._diffusion, order.num_steps, order.guidance_scale)
        shape = self._generator.card.latents
        rows = [
            _Row(
                order,
                way,
                prior(order.seed, i, shape, way.sigmas[0]),
                loop.create_future(),
                trace,
                asked,
            )
            for i in range(order.n)
        ]
        self._rows.extend(rows)
        self._hold(order.n)
        self._pump()
        try:
            return np.stack(await asyncio.gather(*(row.future for row in rows)))
        finally:
            for row in rows:
                row.future.cancel()
            self._hold(-order.n)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _hold(self, n: int) -> None:
        self._held += n
        self._gauge.set(self._held)

    def _pump(self) -> None:
        while self._calls < self._threads and (rows := self._take()):
            self._calls += 1
            asyncio.get_running_loop().create_task(self._advance(rows))

    def _take(self) -> list[_Row]:
        """The rows of the next call. They come back to the queue's front, so that what began first
        ends first."""
        rows: list[_Row] = []
        room = self._max_places
        # Two threads should share what there is rather than one take it all.
        waiting = sum(row.width for row in self._rows if not row.future.done())
        fair = max(1, -(-waiting // max(1, self._threads - self._calls)))
        room = min(room, max(fair, self._rows[0].width if self._rows else 0))
        while self._rows:
            row = self._rows[0]
            if row.future.done():
                self._rows.popleft()
                continue
            if row.width > room:
                break
            rows.append(self._rows.popleft())
            room -= row.width
        return rows

    async def _advance(self, rows: list[_Row]) -> None:
        loop = asyncio.get_running_loop()
        started, places = time.perf_counter(), sum(row.width for row in rows)
        self._waited([row for row in rows if row.step == 0], started)
        try:
            await loop.run_in_executor(self._pool, self._step, rows)
            finished = [row for row in rows if row.finished and not row.future.done()]
            if finished:
                latents = np.stack([row.x for row in finished])
                sigs = await loop.run_in_executor(self._pool, self._generator.decode, latents)
                for row, sig in zip(finished, sigs, strict=True):
                    self._deliver(row, sig)
        except Exception:
            for row in rows:
                if not row.future.done():
                    row.future.set_exception(ModelFailed())
        ended = time.perf_counter()
        seconds = ended - started
        tracing.ran(self._model, places, started, ended, (row.trace for row in rows))
        self._inference_s.observe(seconds)
        self._batch_size.observe(places)
        steps = np.mean([row.order.num_steps for row in rows])
        self._row_s += 0.1 * (seconds * float(steps) / len(rows) - self._row_s)
        self._rows.extendleft(reversed([row for row in rows if not row.future.done()]))
        self._calls -= 1
        self._pump()

    def _waited(self, rows: Sequence[_Row], until: float) -> None:
        """What begins now; a request's rows that begin together are one wait of its trace."""
        for row in rows:
            self._queue_s.observe(until - row.asked)
        traced = Counter((row.trace, row.asked) for row in rows if row.trace)
        for (trace, asked), n in traced.items():
            trace.add("queue", asked, until, model=self._model, n_segments=n)

    def _step(self, rows: Sequence[_Row]) -> None:
        """One call of the network, and the solver's step of each row."""
        d = self._diffusion
        made = estimates(
            self._generator.denoise,
            d,
            np.stack([row.x for row in rows]),
            np.array([row.course.sigmas[row.step] for row in rows], dtype=np.float32),
            np.stack([row.order.labels for row in rows]),
            np.array([row.order.guidance_scale for row in rows]),
            np.array([row.course.following[row.step] for row in rows]),
        )
        for row, estimate in zip(rows, made, strict=True):
            row.x = advance(d, row.x, estimate, row.previous, row.course.sigmas, row.step)
            row.previous = estimate
            row.step += 1

    def _deliver(self, row: _Row, sig: np.ndarray) -> None:
        if row.future.done():
            return
        if np.isfinite(sig).all():
            row.future.set_result(sig)
        else:
            row.future.set_exception(ModelFailed())
