"""A record of hours judged by blocks: in order, a few parts at a time, and given up as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ecg.prepare import Preparation, Segments, cut
from ecg.record import Record
from service.batcher import QueueFull
from service.blocks import AHEAD, PART, Judged, judge_by_blocks


class FakeBatcher:
    """Answers each segment with the mean of its samples, later parts sooner than earlier ones."""

    max_batch = 32

    def __init__(self, fails_at: int | None = None, full: bool = False) -> None:
        self.calls = self.now = self.most = 0
        self.asked_for: list[int] = []
        self.fails_at, self.full = fails_at, full

    def check_room(self, n: int) -> None:
        self.asked_for.append(n)
        if self.full:
            raise QueueFull(1.0)

    async def __call__(
        self, items: Sequence[Segments], sizes: Sequence[int], deadline: float, admitted: bool
    ) -> list[Judged]:
        (part,) = items
        assert admitted and list(sizes) == [len(part.n_valid)] and sizes[0] <= PART
        self.calls += 1
        call = self.calls
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.002 * (AHEAD - call % AHEAD))
            if call == self.fails_at:
                raise TimeoutError
            return [(part, part.sig[part.usable].mean(axis=(1, 2))[:, None])]
        finally:
            self.now -= 1


async def in_thread(work: Any, *args: Any) -> Any:
    return await asyncio.to_thread(work, *args)


@pytest.fixture(scope="module")
def long(record: Record) -> Record:
    """Half an hour and a rest, each ten seconds a little larger than those before, a gap in it."""
    sig = np.tile(record.sig[:2], 181)[:, : 100 * 1804]
    sig = sig * np.linspace(1, 2, sig.shape[1], dtype=np.float32)
    sig[:, 100 * 700 : 100 * 730] = 0
    return Record(sig, 100.0, record.leads[:2])


def judge(long: Record, batcher: FakeBatcher) -> Judged:
    return asyncio.run(
        judge_by_blocks(long, Preparation(), batcher, in_thread, 0.0)  # type: ignore[arg-type]
    )


def test_the_segments_come_in_order_without_their_samples(long: Record) -> None:
    batcher = FakeBatcher()
    segments, logits = judge(long, batcher)
    whole = cut(long, Preparation())
    for name in ("lead_mask", "n_valid", "start_s", "end_s"):
        np.testing.assert_array_equal(getattr(segments, name), getattr(whole, name))
    assert segments.quality == whole.quality
    assert segments.sig.size == 0
    np.testing.assert_allclose(
        logits[:, 0], whole.sig[whole.usable].mean(axis=(1, 2)), rtol=1e-4, atol=1e-7
    )
    assert batcher.most == AHEAD, "no more wait than may, and no fewer"
    assert batcher.asked_for == [PART * AHEAD]


def test_a_part_that_fails_ends_the_others(long: Record) -> None:
    batcher = FakeBatcher(fails_at=11)
    with pytest.raises(TimeoutError):
        judge(long, batcher)
    assert batcher.now == 0
    assert batcher.calls <= 11 + AHEAD


def test_where_there_is_no_room_nothing_is_cut(long: Record) -> None:
    batcher = FakeBatcher(full=True)
    with pytest.raises(QueueFull):
        judge(long, batcher)
    assert batcher.calls == 0


def test_a_cancelled_record_leaves_nothing_under_way(long: Record) -> None:
    async def cancel_soon(batcher: FakeBatcher) -> None:
        work = judge_by_blocks(long, Preparation(), batcher, in_thread, 0.0)  # type: ignore[arg-type]
        task = asyncio.create_task(work)
        while batcher.calls < 10:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert batcher.now == 0

    asyncio.run(cancel_soon(FakeBatcher()))
