"""A version of a generator looked at: what it makes, and what classifiers learn from that.

Everything is kept in the version's folder and made once: the ECGs that are rewarded are those that
classifiers learn from, and each version is looked at with the same labels and the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ecg.generation import generate_latents
from ecg.labels import Labels, encode
from ecg.store import Generator, load_classifier, load_generator
from training.judging.embeddings import kept
from training.judging.fidelity import with_signals
from training.ldm.latents import labels_of
from training.make_set import records_of
from training.shards import Shard, save
from training.train_classifier import CHOOSE, TRAIN
from training.tstr import Trial, run_all

AT_ONCE = 16
SEED = 8  # of the noise


@dataclass(frozen=True)
class LookConfig:
    """`pool`: ECGs of training records' labels, two of each; `held`: of fold 9's, at most;
    classifiers that learn from the pool: of these `seeds`, so many `steps`, of this preset."""

    pool: int = 1200
    held: int = 376
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 500
    preset: str = "small"


@dataclass(frozen=True)
class Bench:
    """What all versions are looked at with: the path of the real ECGs' shard, these ECGs, the
    folder of the stored classifier."""

    path: Path
    real: Shard
    classifier_folder: Path
    config: LookConfig

    @cached_property
    def training(self) -> Shard:
        return self.real.folds(TRAIN)

    @cached_property
    def asked(self) -> Shard:
        """The training segments whose labels the pool has: each twice, one after the other."""
        n = min(self.config.pool // 2, len(self.training.sig))
        rows = np.random.default_rng(SEED).permutation(len(self.training.sig))[:n]
        return records_of(self.training, np.repeat(rows, 2))

    @cached_property
    def held(self) -> Shard:
        """Real segments of fold 9, each of a record."""
        part = self.real.folds(CHOOSE)
        rows = np.random.default_rng(SEED).permutation(len(part.sig))[: self.config.held]
        return records_of(part, np.sort(rows))

    @cached_property
    def classifier(self):
        return load_classifier(self.classifier_folder, "cpu")


@dataclass(frozen=True)
class Look:
    """At the version in `folder`, whose networks are in the store `store`."""

    bench: Bench
    folder: Path
    store: Path

    @cached_property
    def generator(self) -> Generator:
        return load_generator(self.store, "cpu")

    @property
    def _key(self) -> str:
        return self.generator.card.sha256[:12]

    @cached_property
    def latents(self) -> np.ndarray:
        """Of the pool, normalised: float32 [n, latents, time]."""
        return kept(self.folder, f"pool-{self._key}-{self.bench.config.pool}", lambda: self._make(
            self.bench.asked
        ))  # fmt: skip

    @cached_property
    def encoded(self) -> np.ndarray:
        """The labels that the pool was told, float32 [n, features]."""
        statements = self.generator.card.statements
        return np.stack(
            [encode(one, statements) for one in labels_told(self.bench.asked, statements)]
        )

    @cached_property
    def pool(self) -> Shard:
        return with_signals(self.bench.asked, self._decoded(self.latents), "generated")

    @cached_property
    def held(self) -> Shard:
        """ECGs with the labels of fold 9."""
        name = f"held-{self._key}-{self.bench.config.held}"
        latents = kept(self.folder, name, lambda: self._make(self.bench.held))
        return with_signals(self.bench.held, self._decoded(latents), "generated")

    @cached_property
    def logits(self) -> list[np.ndarray]:
        """Of fold 9 by each classifier that learned from the pool."""
        c = self.bench.config
        path = self.folder / f"pool-{self._key}-{c.pool}.npz"
        if not path.exists():
            save(self.pool, path)
        trials = [
            Trial(
                name=f"classifier-{self._key}-{seed}", training=(str(path),),
                real=str(self.bench.path), seed=seed, steps=c.steps, preset=c.preset,
            )
            for seed in c.seeds
        ]  # fmt: skip
        return [one.logits[CHOOSE[0]] for one in run_all(trials, self.folder / "trials", 1)]

    def _make(self, part: Shard) -> np.ndarray:
        told = labels_told(part, self.generator.card.statements)
        starts = tqdm(range(0, len(told), AT_ONCE), desc=self.folder.name, unit=" batches")
        made = []
        for start in starts:
            rows = range(start, min(start + AT_ONCE, len(told)))
            made.append(generate_latents(self.generator, [told[i] for i in rows], rows, SEED))
        return np.concatenate(made)

    def _decoded(self, latents: np.ndarray) -> np.ndarray:
        parts = (latents[i : i + AT_ONCE] for i in range(0, len(latents), AT_ONCE))
        return np.concatenate([self.generator.decode(part) for part in parts])


def labels_told(part: Shard, statements: Sequence[str]) -> list[Labels]:
    return [labels_of(part, i, statements) for i in range(len(part.sig))]
