"""What every peer does with a body: read, prepare, and answer, with this project's own functions.

A peer's own part is what lies between: HTTP, threads, batching.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecg.decision import sigmoid
from ecg.formats import File, Hints, read
from ecg.prepare import Segments, cut
from ecg.store import Classifier, load_classifier

FOLDER = Path(os.environ["PEER_MODEL"])
MAX_BATCH, MAX_WAIT_S = 32, 0.002  # ours


def load() -> Classifier:
    """The served model, one thread a run; warm."""
    classifier = load_classifier(FOLDER, "cpu")
    n = len(classifier.card.leads)
    classifier.logits(
        np.zeros((1, n, classifier.card.n_samples), np.float32),
        np.ones((1, n), np.float32),
        np.array([classifier.card.n_samples]),
    )
    return classifier


def prepared(classifier: Classifier, body: bytes) -> list[Segments]:
    records = read([File(body)], Hints(None, None, None))
    return [cut(record, classifier.card.preparation) for record in records]


def batch(pieces: Sequence[Segments]) -> tuple[np.ndarray, ...]:
    """sig, lead_mask and n_valid of all pieces."""
    return tuple(
        np.concatenate([getattr(p, name) for p in pieces])
        for name in ("sig", "lead_mask", "n_valid")
    )


def probability(logits: np.ndarray) -> np.ndarray:
    """float64 [segment, output], to six digits."""
    return sigmoid(logits).round(6)


def answer(classifier: Classifier, logits: np.ndarray) -> dict:
    """A probability for each statement of each segment."""
    names = ("atrial_substrate", *classifier.card.statements)
    return {"results": [dict(zip(names, row, strict=True)) for row in probability(logits).tolist()]}


def split(logits: np.ndarray, requests: Sequence[Sequence[Segments]]) -> list[np.ndarray]:
    """A batch's logits, given back to the requests that they were made of."""
    counts = [sum(len(piece.sig) for piece in pieces) for pieces in requests]
    return np.split(logits, np.cumsum(counts)[:-1])
