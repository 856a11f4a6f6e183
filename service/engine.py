"""What a worker holds: the loaded model, its batcher, and the threads that read bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ecg.store import Classifier, load_classifier
from service import logs, metrics
from service.batcher import Batcher
from service.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Engine:
    classifier: Classifier
    batcher: Batcher
    readers: ThreadPoolExecutor

    @classmethod
    def start(cls, settings: Settings) -> Engine:
        """Load and warm the model. Errors: StoreError."""
        classifier = load_classifier(settings.models_store / settings.classifier, settings.device)
        card = classifier.card
        for n in (1, settings.max_batch):  # the first runs allocate
            classifier.logits(
                np.zeros((n, len(card.leads), card.n_samples), np.float32),
                np.ones((n, len(card.leads)), np.float32),
                np.full(n, card.n_samples),
            )
        batcher = Batcher(
            card.name,
            classifier.logits,
            threads=settings.engine_threads,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            max_queue=settings.max_queue,
        )
        names = {"version": card.version, "sha256": card.sha256, "device": classifier.device}
        metrics.MODEL.labels(model=card.name, **names).set(1)
        logs.event("model loaded", model=card.name, **names)
        readers = ThreadPoolExecutor(settings.reader_threads, thread_name_prefix="read")
        return cls(classifier, batcher, readers)

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Run what is slow beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, work, *args)

    def close(self) -> None:
        self.batcher.close()
        self.readers.shutdown(wait=True)
