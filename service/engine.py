"""What a worker holds: the loaded models, their batching, and the threads that read bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ecg import formats
from ecg.errors import UnservableError
from ecg.formats import File, Hints
from ecg.labels import n_features
from ecg.record import Record
from ecg.store import Classifier, Generator, cuda_offered, load_classifier, load_generator
from service import classify, logs, metrics
from service.batcher import Batcher
from service.inflight import InFlight
from service.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Classification:
    """A classifier and its batching."""

    model: Classifier
    batcher: Batcher[classify.Item, classify.Judged]

    @classmethod
    def start(cls, name: str, settings: Settings) -> Classification:
        """The store's classifier of that name, warm. Errors: StoreError."""
        classifier = load_classifier(settings.models_store / name, settings.device)
        card = classifier.card
        for n in (1, settings.max_batch):  # the first runs allocate
            classifier.logits(
                np.zeros((n, len(card.leads), card.n_samples), np.float32),
                np.ones((n, len(card.leads)), np.float32),
                np.full(n, card.n_samples),
            )
        batcher = Batcher(
            name,
            partial(classify.run, classifier),
            before=partial(classify.prepare_few, card),
            threads=settings.engine_threads,
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            max_queue=settings.max_queue,
            max_delay_s=settings.max_delay_s,
            max_here=settings.max_here if classifier.device == "cpu" else 0,
        )
        return cls(classifier, batcher)


@dataclass(frozen=True)
class Generation:
    """A generator and its in-flight batching."""

    model: Generator
    inflight: InFlight

    @classmethod
    def start(cls, name: str, settings: Settings) -> Generation:
        """The store's generator of that name, warm. Errors: StoreError."""
        generator = load_generator(settings.models_store / name, settings.device)
        card = generator.card
        x = np.zeros((settings.max_places, *card.latents), np.float32)
        labels = np.zeros((len(x), n_features(card.statements)), np.float32)
        generator.denoise(x, np.ones(len(x), np.float32), labels)
        generator.decode(x[:1])
        inflight = InFlight(
            generator,
            name,
            threads=settings.engine_threads,
            max_places=settings.max_places,
            max_waiting=settings.max_waiting,
        )
        return cls(generator, inflight)


@dataclass(frozen=True)
class Engine:
    """Models by their names in the settings, the first of each kind being its default."""

    classifications: dict[str, Classification]
    generations: dict[str, Generation]
    readers: ThreadPoolExecutor

    @classmethod
    def start(cls, settings: Settings) -> Engine:
        """Load and warm the models. Errors: StoreError."""
        classifications = {n: Classification.start(n, settings) for n in settings.classifiers}
        generations = {n: Generation.start(n, settings) for n in generators_of(settings)}
        readers = ThreadPoolExecutor(settings.reader_threads, thread_name_prefix="read")
        engine = cls(classifications, generations, readers)
        for name, model in engine.models.items():
            names = {"version": model.card.version, "sha256": model.card.sha256}
            names |= {"model": name, "device": model.device}
            metrics.MODEL.labels(**names).set(1)
            logs.event("model loaded", **names)
        metrics.WANTED_WORKERS.set(settings.workers)
        metrics.CUDA_OFFERED.set(settings.device != "cpu" and cuda_offered())
        return engine

    @property
    def models(self) -> dict[str, Classifier | Generator]:
        """Classifiers first, each kind's default before its others."""
        return {n: one.model for n, one in (self.classifications | self.generations).items()}

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Run what is slow beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, work, *args)

    async def read(
        self, files: list[File], hints: Hints, recognised: Callable[[str], None]
    ) -> list[Record]:
        """The records in a request's files; `recognised` as for `formats.read`. Errors:
        EcgError."""
        if formats.read_at_once(files):
            return formats.read(files, hints, recognised)
        return await self.in_thread(formats.read, files, hints, recognised)

    def close(self) -> None:
        for classification in self.classifications.values():
            classification.batcher.close()
        for generation in self.generations.values():
            generation.inflight.close()
        self.readers.shutdown(wait=True)


def chosen(served: Mapping[str, T], name: str | None) -> T:
    """The one of that name, else the default. Errors: UnservableError that names what there is."""
    if name is None:
        return next(iter(served.values()))
    if name not in served:
        raise UnservableError(f"must be one of those served here: {', '.join(served)}", "model")
    return served[name]


def generators_of(settings: Settings) -> tuple[str, ...]:
    """Those to serve. A store may be without the only one that is named, but not without one of
    several."""
    names = settings.generators
    if len(names) == 1 and not (settings.models_store / names[0]).exists():
        return ()
    return names
