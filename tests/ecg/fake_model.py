"""A model of a kilobyte: each output is a weighted sum over the known samples of each lead."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ecg.card import ClassifierCard
from ecg.decision import Calibration, RecordRule
from ecg.leads import INDEPENDENT_LEADS
from ecg.prepare import Preparation
from ecg.store import CARD, WEIGHTS

N_SAMPLES = 1000
STATEMENTS = ("NORM", "AFIB")
N_OUTPUTS = 1 + len(STATEMENTS)
LEAD_WEIGHTS = np.linspace(-1, 1, 8 * N_OUTPUTS, dtype=np.float32).reshape(8, N_OUTPUTS)


def expected_logits(sig: np.ndarray, lead_mask: np.ndarray, sample_mask: np.ndarray) -> np.ndarray:
    """What the model computes, in NumPy; `sig` as the model gets it."""
    return (sig * sample_mask[:, None, :]).sum(axis=2) * lead_mask @ LEAD_WEIGHTS


def weights(lead_weights: np.ndarray = LEAD_WEIGHTS) -> bytes:
    shapes = {
        "sig": ["batch", 8, N_SAMPLES],
        "lead_mask": ["batch", 8],
        "sample_mask": ["batch", N_SAMPLES],
    }
    graph = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["sample_mask", "one"], ["mask"]),
            helper.make_node("Mul", ["sig", "mask"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "two"], ["summed"], keepdims=0),
            helper.make_node("Mul", ["summed", "lead_mask"], ["known"]),
            helper.make_node("MatMul", ["known", "weights"], ["logits"]),
        ],
        "fake",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", N_OUTPUTS])],
        [
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([2]), "two"),
            numpy_helper.from_array(lead_weights.astype(np.float32), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def card(**changes: object) -> ClassifierCard:
    """A valid card of the model above, but for the changes."""
    alike = (0.0,) * N_OUTPUTS
    given = {
        "name": "fake",
        "version": "1",
        "created": "2026-01-01",
        "architecture": "a weighted sum",
        "n_parameters": LEAD_WEIGHTS.size,
        "sha256": hashlib.sha256(weights()).hexdigest(),
        "fs": 100.0,
        "n_samples": N_SAMPLES,
        "leads": INDEPENDENT_LEADS,
        "statements": STATEMENTS,
        "implying_statements": ("AFIB",),
        "preparation": Preparation(),
        "calibration": (Calibration("any", 1, (1.0,) * N_OUTPUTS, alike, (0.5,) * N_OUTPUTS),),
        "record_rule": RecordRule(),
        "chosen_on": "nothing",
        "metrics": (),
        "training_data": (),
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "not_for": "anything else",
        "limitations": (),
    }
    return ClassifierCard(**{**given, **changes})  # type: ignore[arg-type]


def store(folder: Path, lead_weights: np.ndarray = LEAD_WEIGHTS, **changes: object) -> Path:
    """The model and its card, as a folder of a models store."""
    folder.mkdir(parents=True)
    content = weights(lead_weights)
    (folder / WEIGHTS).write_bytes(content)
    given = {"sha256": hashlib.sha256(content).hexdigest(), **changes}
    (folder / CARD).write_text(card(**given).model_dump_json())
    return folder
