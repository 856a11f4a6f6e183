"""The features of a shard's segments, by several processes, kept so that they are made once."""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.features.measures import features
from training.features.table import NAMES
from training.shards import Shard

CHUNK = 32  # segments


def features_of(part: Shard, workers: int = 1) -> np.ndarray:
    """float32 [segment, features], NaN where one cannot be measured."""
    rows = [range(i, min(i + CHUNK, len(part.sig))) for i in range(0, len(part.sig), CHUNK)]
    jobs = [
        (part.sig[list(r)], part.lead_mask[list(r)], part.n_valid[list(r)], part.preparation.fs)
        for r in rows
    ]
    with tqdm(total=len(part.sig), unit=" ECGs", mininterval=5) as bar:
        found = []
        if workers == 1:
            for job in jobs:
                found.append(_chunk(job))
                bar.update(len(job[0]))
        else:
            with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
                for made in pool.map(_chunk, jobs):
                    found.append(made)
                    bar.update(len(made))
    return np.concatenate(found) if found else np.empty((0, len(NAMES)), np.float32)


def kept_features(part: Shard, path: Path, workers: int = 1) -> np.ndarray:
    """`features_of` the part, read from `path` where it was written for the same signals and the
    same features."""
    sha = hashlib.sha256()
    for array in (part.sig, part.lead_mask, part.n_valid):
        sha.update(np.ascontiguousarray(array).tobytes())
    made_of = sha.hexdigest()
    if path.exists():
        with np.load(path, allow_pickle=False) as f:
            if str(f["made_of"]) == made_of and tuple(f["names"]) == NAMES:
                return f["features"]
    made = features_of(part, workers)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"part-{path.name}")
    np.savez_compressed(beside, features=made, names=np.array(NAMES), made_of=made_of)
    beside.replace(path)
    return made


def _chunk(job: tuple[np.ndarray, np.ndarray, np.ndarray, float]) -> np.ndarray:
    sig, lead_mask, n_valid, fs = job
    return np.stack(
        [features(s[:, :n], m, fs) for s, m, n in zip(sig, lead_mask, n_valid, strict=True)]
    )
