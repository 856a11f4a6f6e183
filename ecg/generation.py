"""What a seed, a row and its labels give, wherever a stored generator runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ecg.card import Diffusion
from ecg.labels import Labels, encode
from ecg.sampler import course, sample
from ecg.sampling import prior
from ecg.store import Generator


def generate(
    generator: Generator,
    labels: Sequence[Labels],
    rows: Sequence[int],
    seed: int,
    diffusion: Diffusion | None = None,
) -> np.ndarray:
    """float32 mV [len(rows), 8, n_samples].

    A row's number and the seed give its noise: the rows 0 to n - 1 are what `/synthesize` answers
    to the same seed and labels.

    Args:
        labels: of each row.
        diffusion: the card's where it is None.
    """
    return generator.decode(generate_latents(generator, labels, rows, seed, diffusion))


def generate_latents(
    generator: Generator,
    labels: Sequence[Labels],
    rows: Sequence[int],
    seed: int,
    diffusion: Diffusion | None = None,
) -> np.ndarray:
    """float32 [len(rows), *latents]: what `generate` decodes."""
    d = diffusion or generator.card.diffusion
    way = course(d, d.num_steps, d.guidance_scale)
    encoded = np.stack([encode(one, generator.card.statements) for one in labels])
    x = np.stack([prior(seed, row, generator.card.latents, way.sigmas[0]) for row in rows])
    return sample(generator.denoise, d, x, encoded, way, d.guidance_scale)


def generate_many(
    generator: Generator,
    labels: Sequence[Labels],
    rows: Sequence[int],
    seed: int,
    diffusion: Diffusion | None = None,
    *,
    workers: int,
    batch_size: int = 16,
) -> Iterator[np.ndarray]:
    """As `generate`, batch by batch and in order, `workers` batches at a time."""
    with ThreadPoolExecutor(workers) as pool:
        starts = range(0, len(rows), batch_size)

        def one(start: int) -> np.ndarray:
            part = slice(start, start + batch_size)
            return generate(generator, labels[part], rows[part], seed, diffusion)

        yield from pool.map(one, starts)
