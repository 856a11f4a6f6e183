"""NVIDIA Triton through PyTriton: its HTTP front end and dynamic batcher, and an inference callable
a core that reads, prepares and runs a whole batch.

Triton takes only its own protocol (KServe v2): the NPZ travels in it as one BYTES element, in the
binary form, so that it is not base64 in JSON. A batch is of requests, and so are its answers:
float64 [request, segment, output], JSON as KServe v2 has it by default. Requests of one batch must
have as many segments; these all have one.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable

import numpy as np

MODEL = "classify"
ATTEMPTS = 3
PATH = f"/v2/models/{MODEL}/infer"
READY = f"/v2/models/{MODEL}/ready"


def request(content: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an inference request for one NPZ."""
    element = struct.pack("<I", len(content)) + content
    said = {
        "inputs": [
            {
                "name": "body",
                "datatype": "BYTES",
                "shape": [1, 1],
                "parameters": {"binary_data_size": len(element)},
            }
        ]
    }
    header = json.dumps(said, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    return header + element, headers


def infer_with(classifier) -> Callable[..., dict[str, np.ndarray]]:
    from pytriton.decorators import batch

    from loadtest.peers import answering

    @batch
    def infer(body: np.ndarray) -> dict[str, np.ndarray]:
        pieces = [p for one in body[:, 0] for p in answering.prepared(classifier, one)]
        probability = answering.probability(classifier.logits(*answering.batch(pieces)))
        return {"probability": probability.reshape(len(body), -1, probability.shape[-1])}

    return infer


def main(port: int) -> None:
    from tritonclient.utils import InferenceServerException

    for left in reversed(range(ATTEMPTS)):
        try:
            return serve(port)
        except InferenceServerException:
            # every callable's process gives the first one's a second to be up, whatever else runs
            if left == 0:
                raise


def serve(port: int) -> None:
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    from loadtest.peers.answering import MAX_BATCH, MAX_WAIT_S, load

    classifier = load()
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=int(MAX_WAIT_S * 1e6))
    with Triton(config=config) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=[infer_with(classifier) for _ in range(os.cpu_count() or 1)],
            inputs=[Tensor(name="body", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="probability", dtype=np.float64, shape=(-1, -1))],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=batcher),
        )
        triton.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
