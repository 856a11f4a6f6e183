"""LitServe: a LitAPI with its batching, an inference process a core. The NPZ is the multipart field
`file`."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
from litserve import LitAPI, LitServer

from ecg.prepare import Segments
from loadtest.peers import answering


class Peer(LitAPI):
    def setup(self, device: str) -> None:
        self.classifier = answering.load()

    # not annotated: FastAPI would take a type here for a schema of JSON
    def decode_request(self, request):
        return answering.prepared(self.classifier, request["file"].file.read())

    def batch(self, inputs: list[list[Segments]]) -> list[list[Segments]]:
        return inputs

    def predict(self, x: list[list[Segments]]) -> list[np.ndarray]:
        logits = self.classifier.logits(*answering.batch([p for pieces in x for p in pieces]))
        return answering.split(logits, x)

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        return output

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return answering.answer(self.classifier, output)


if __name__ == "__main__":
    api = Peer(
        max_batch_size=answering.MAX_BATCH,
        batch_timeout=answering.MAX_WAIT_S,
        api_path="/classify",
    )
    server = LitServer(api, accelerator="cpu", workers_per_device=os.cpu_count() or 1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
