"""A record of hours judged by blocks: no more of it is prepared than waits or runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ecg.prepare import Block, Preparation, Segments, cut_by_blocks, join
from ecg.record import Record
from service.batcher import Batcher

Judged = tuple[Segments, np.ndarray]  # with logits [usable segment, output]
InThread = Callable[..., Awaitable[Any]]
PART = 8  # segments of a long record that go together
AHEAD = 8  # such parts of a record of hours that wait or run at a time


async def judge_by_blocks(
    record: Record,
    preparation: Preparation,
    batcher: Batcher[Any, Judged],
    in_thread: InThread,
    deadline: float,
) -> Judged:
    """What the model makes of the record, without its samples. A block is cut while the one before
    it is judged. Room is asked for once, for as much as the record has in the queue at a time: the
    rest takes no place there. Errors: as for the batcher."""
    step = min(PART, batcher.max_batch)
    batcher.check_room(step * AHEAD)
    blocks = cut_by_blocks(record, preparation)
    seen: list[Block] = []
    logits: list[np.ndarray] = []
    under_way: deque[asyncio.Task[list[Judged]]] = deque()

    async def cut_next() -> Block | None:
        return await in_thread(next, blocks, None)

    async def judge(part: Segments) -> list[Judged]:
        return await batcher([part], [len(part.n_valid)], deadline, admitted=True)

    async def take() -> None:
        ((_, found),) = await under_way.popleft()
        logits.append(found)

    coming = asyncio.create_task(cut_next())
    try:
        while (block := await coming) is not None:
            coming = asyncio.create_task(cut_next())
            whole = block.segments
            seen.append(block._replace(segments=replace(whole, sig=whole.sig[:, :, :0].copy())))
            for i in range(0, len(whole.n_valid), step):
                if len(under_way) == AHEAD:
                    await take()
                under_way.append(asyncio.create_task(judge(whole.part(i, i + step))))
        while under_way:
            await take()
    finally:
        left = [coming, *under_way]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    return join(seen, record.leads), np.concatenate(logits)
