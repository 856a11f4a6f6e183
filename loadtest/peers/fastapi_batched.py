"""FastAPI with a micro-batcher of its own, as one writes it by hand: a queue, and a task that takes
what has come within two milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import ORJSONResponse

from ecg.prepare import Segments
from loadtest.peers.answering import MAX_BATCH, MAX_WAIT_S, answer, batch, load, prepared

classifier = load()
pool = ThreadPoolExecutor(os.cpu_count())
Waiting = tuple[list[Segments], asyncio.Future[np.ndarray]]


async def collect(queue: asyncio.Queue[Waiting]) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.Semaphore(os.cpu_count() or 1)
    tasks = set()
    while True:
        waiting = [await queue.get()]
        until = loop.time() + MAX_WAIT_S
        while len(waiting) < MAX_BATCH and (left := until - loop.time()) > 0:
            try:
                waiting.append(await asyncio.wait_for(queue.get(), left))
            except TimeoutError:
                break
        await running.acquire()
        task = asyncio.create_task(run(waiting))
        tasks.add(task)
        task.add_done_callback(lambda done: (tasks.discard(done), running.release()))


async def run(waiting: list[Waiting]) -> None:
    loop = asyncio.get_running_loop()
    arrays = batch([piece for pieces, _ in waiting for piece in pieces])
    logits = await loop.run_in_executor(pool, lambda: classifier.logits(*arrays))
    start = 0
    for pieces, future in waiting:
        n = sum(len(p.sig) for p in pieces)
        future.set_result(logits[start : start + n])
        start += n


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.queue = asyncio.Queue()
    task = asyncio.create_task(collect(app.state.queue))
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request) -> ORJSONResponse:
    loop = asyncio.get_running_loop()
    body = await request.body()
    pieces = await loop.run_in_executor(pool, prepared, classifier, body)
    future: asyncio.Future[np.ndarray] = loop.create_future()
    await request.app.state.queue.put((pieces, future))
    return ORJSONResponse(answer(classifier, await future))


@app.get("/readyz")
async def ready() -> None:
    """Answers once the module, and so the model, is loaded."""
