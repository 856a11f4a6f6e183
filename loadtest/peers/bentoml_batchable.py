"""BentoML's own adaptive batching: one API, `batchable=True`, in a process a core.

A batchable API takes a list and gives one of the same length back, so a request is a list of one:
the NPZ as the multipart field `files`. A raw body would need a second service in front of this one
(`bentoml.depends`), and so another hop of HTTP a request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml

from loadtest.peers.answering import MAX_BATCH, answer, batch, load, prepared, split


@bentoml.service(workers="cpu_count", logging={"access": {"enabled": False}})
class Peer:
    def __init__(self) -> None:
        self.classifier = load()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def classify(self, files: list[Path]) -> list[dict[str, Any]]:
        requests = [prepared(self.classifier, file.read_bytes()) for file in files]
        logits = self.classifier.logits(*batch([p for pieces in requests for p in pieces]))
        return [answer(self.classifier, one) for one in split(logits, requests)]
