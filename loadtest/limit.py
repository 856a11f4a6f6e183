"""The limit: preparation and model in one process, nothing around them, on the same machine.

Each topology is a number of runs at a time, of so many threads each, with so many segments a run.
"""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg.prepare import cut_all
from ecg.record import Record
from ecg.store import Classifier, load_classifier

BATCHES = (1, 8, 32)


@dataclass(frozen=True)
class Limit:
    """Segments a second of one topology; the best of several is what a server could reach."""

    runs: int
    threads: int
    batch: int
    segments_a_second: float
    preparation_ms: float  # CPU of one segment
    model_ms: float


def topologies() -> list[tuple[int, int]]:
    """(runs at a time, threads of each): one run of all cores, a run a core."""
    cores = os.cpu_count() or 1
    return [(1, cores), (cores, 1)] if cores > 1 else [(1, 1)]


def limits(folder: Path, records: list[Record], seconds: float = 2.0) -> list[Limit]:
    """Every topology with every batch, `seconds` each; the fastest first."""
    found = []
    for (runs, threads), batch in itertools.product(topologies(), BATCHES):
        classifier = load_classifier(folder, "cpu", threads)
        found.append(measure(classifier, records, runs, threads, batch, seconds))
    return sorted(found, key=lambda one: -one.segments_a_second)


def measure(
    classifier: Classifier,
    records: list[Record],
    runs: int,
    threads: int,
    batch: int,
    seconds: float,
) -> Limit:
    preparation = classifier.card.preparation
    chosen = list(itertools.islice(itertools.cycle(records), batch))

    def once() -> tuple[float, float]:
        """CPU seconds of this thread in the preparation, and wall seconds in the model."""
        began = time.thread_time()
        pieces = cut_all(chosen, preparation)
        arrays = (
            np.concatenate([getattr(p, name) for p in pieces])
            for name in ("sig", "lead_mask", "n_valid")
        )
        prepared = time.thread_time() - began
        began = time.perf_counter()
        classifier.logits(*arrays)
        return prepared, time.perf_counter() - began

    once()
    until = time.perf_counter() + seconds

    def work(_: int) -> list[tuple[float, float]]:
        out = []
        while time.perf_counter() < until:
            out.append(once())
        return out

    began = time.perf_counter()
    with ThreadPoolExecutor(runs) as pool:
        spent = np.array(list(itertools.chain.from_iterable(pool.map(work, range(runs)))))
    elapsed = time.perf_counter() - began
    preparation_ms, model_ms = (1000 * np.median(spent, axis=0) / batch).tolist()
    rate = len(spent) * batch / elapsed
    return Limit(runs, threads, batch, round(rate, 1), round(preparation_ms, 3), round(model_ms, 3))
