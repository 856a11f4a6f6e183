"""A generator of a few kilobytes: the same regular beats in every ECG, and a wander of its own that
is drawn from the seed and shifted by the labels."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ecg.card import Diffusion, GeneratorCard
from ecg.labels import n_features
from ecg.leads import INDEPENDENT_LEADS
from ecg.prepare import Preparation
from ecg.store import CARD, DECODER, DENOISER

STATEMENTS = ("NORM", "LVH", "LAO/LAE", "LVOLT", "SR", "AFIB")
LATENTS = (len(INDEPENDENT_LEADS), 128)
N_SAMPLES = 1000
SIGMA_DATA = 0.5


def denoiser(by_labels: np.ndarray | None = None) -> bytes:
    """What is best for latents that are nothing but noise, and a shift by the labels, [label
    feature, channel]."""
    n_labels = n_features(STATEMENTS)
    if by_labels is None:
        by_labels = np.linspace(-0.2, 0.2, n_labels * LATENTS[0])
    inputs = {"x": ["batch", *LATENTS], "sigma": ["batch"], "labels": ["batch", n_labels]}
    return _model(
        [
            helper.make_node("Mul", ["sigma", "sigma"], ["square"]),
            helper.make_node("Add", ["square", "variance"], ["total"]),
            helper.make_node("Div", ["variance", "total"], ["kept"]),
            helper.make_node("Unsqueeze", ["kept", "channel_and_time"], ["row"]),
            helper.make_node("Mul", ["x", "row"], ["shrunk"]),
            helper.make_node("MatMul", ["labels", "by_labels"], ["shift"]),
            helper.make_node("Unsqueeze", ["shift", "time"], ["everywhere"]),
            helper.make_node("Add", ["shrunk", "everywhere"], ["denoised"]),
        ],
        inputs,
        {"denoised": inputs["x"]},
        variance=np.array(SIGMA_DATA**2, np.float32),
        by_labels=by_labels.reshape(n_labels, LATENTS[0]).astype(np.float32),
        channel_and_time=np.array([1, 2]),
        time=np.array([2]),
    )


def decoder() -> bytes:
    """Beats, and the latents stretched over the ten seconds at 40 uV a unit."""
    time = np.arange(N_SAMPLES)
    knots = np.linspace(0, N_SAMPLES, LATENTS[1])
    stretch = np.array([np.interp(time, knots, one) for one in np.eye(LATENTS[1])])
    phase = time % 80
    beat = 1.2 * np.exp(-(((phase - 40) / 1.5) ** 2)) + 0.2 * np.exp(-(((phase - 62) / 7) ** 2))
    beats = np.linspace(0.6, 1.2, LATENTS[0])[:, None] * beat
    return _model(
        [
            helper.make_node("MatMul", ["latents", "stretch"], ["wander"]),
            helper.make_node("Add", ["wander", "beats"], ["sig"]),
        ],
        {"latents": ["batch", *LATENTS]},
        {"sig": ["batch", LATENTS[0], N_SAMPLES]},
        stretch=(0.04 * stretch).astype(np.float32),
        beats=beats.astype(np.float32),
    )


def card(
    sha256: str = "0" * 64, decoder_sha256: str = "0" * 64, **changes: object
) -> GeneratorCard:
    """A valid card of the networks above, but for the changes."""
    given = dict(
        name="fake-ldm",
        version="0.0.7",
        created="2026-01-01",
        architecture="noise, beats and a shift",
        n_parameters=1,
        sha256=sha256,
        decoder_sha256=decoder_sha256,
        latents=LATENTS,
        diffusion=Diffusion(
            sigma_data=SIGMA_DATA,
            sigma_min=0.002,
            sigma_max=80.0,
            rho=7.0,
            num_steps=5,
            guidance_scale=1.5,
            guidance_interval=(0.0, 80.0),
        ),
        fs=100.0,
        n_samples=N_SAMPLES,
        leads=INDEPENDENT_LEADS,
        statements=STATEMENTS,
        preparation=Preparation(),
        chosen_on="nothing",
        metrics=(),
        training_data=(),
        licence="Apache-2.0",
        intended_use="tests",
        not_for="anything else",
        limitations=(),
    )
    return GeneratorCard(**{**given, **changes})  # type: ignore[arg-type]


def store(folder: Path, by_labels: np.ndarray | None = None, **changes: object) -> Path:
    """The networks and their card, as a folder of a models store."""
    folder.mkdir(parents=True)
    hashes = []
    for name, weights in ((DENOISER, denoiser(by_labels)), (DECODER, decoder())):
        (folder / name).write_bytes(weights)
        hashes.append(hashlib.sha256(weights).hexdigest())
    (folder / CARD).write_text(card(*hashes, **changes).model_dump_json())
    return folder


def _model(nodes: list, inputs: dict, outputs: dict, **constants: np.ndarray) -> bytes:
    def described(shapes: dict) -> list:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    graph = helper.make_graph(
        nodes,
        "fake",
        described(inputs),
        described(outputs),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
