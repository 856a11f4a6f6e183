"""The model store: one folder a model, weights and card together, run by ONNX Runtime."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from ecg.card import ClassifierCard, GeneratorCard, read_card
from ecg.errors import StoreError
from ecg.labels import n_features
from ecg.prepare import condition, sample_mask

Device = Literal["auto", "cpu", "cuda"]
WEIGHTS, CARD = "model.onnx", "card.json"
DENOISER, DECODER = "denoiser.onnx", "decoder.onnx"


@dataclass(frozen=True)
class Classifier:
    """A loaded classifier. `logits` may be called from several threads at once."""

    card: ClassifierCard
    device: Literal["cpu", "cuda"]
    session: Any

    def logits(self, sig: np.ndarray, lead_mask: np.ndarray, n_valid: np.ndarray) -> np.ndarray:
        """float32 [segment, 1 + statements] of cut segments, as `ecg.prepare.cut` leaves them.

        sig: mV [segment, 8, n_samples]; lead_mask: [segment, 8]; n_valid: [segment].
        """
        return self.of_conditioned(
            condition(sig, n_valid, self.card.preparation), lead_mask, n_valid
        )

    def of_conditioned(
        self, sig: np.ndarray, lead_mask: np.ndarray, n_valid: np.ndarray
    ) -> np.ndarray:
        """As `logits`, of segments that `ecg.prepare.condition` has made ready."""
        inputs = {
            "sig": sig,
            "lead_mask": lead_mask,
            "sample_mask": sample_mask(n_valid, self.card.n_samples),
        }
        return self.session.run(["logits"], inputs)[0]


def load_classifier(folder: Path, device: Device = "auto", threads: int = 1) -> Classifier:
    """The model in `folder`, or StoreError: nothing is served that differs from its card.

    Args:
        device: `cuda` refuses to start without it, `auto` takes it where it works.
        threads: of one run; parallel runs of one thread each serve more than one run of many.
    """
    card = read_card(folder / CARD, ClassifierCard)
    weights = _verified(folder / WEIGHTS, card.sha256)
    session, used = open_session(weights, device, threads)
    return Classifier(card, used, session)


@dataclass(frozen=True)
class Generator:
    """A loaded latent generator: networks only, the sampler is `ecg.sampling`. Both may be called
    from several threads at once."""

    card: GeneratorCard
    device: Literal["cpu", "cuda"]
    denoiser: Any
    decoder: Any

    def denoise(self, x: np.ndarray, sigma: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """D(x; sigma, labels), like x [row, *latents]; sigma [row]; labels [row, features]."""
        return self._run(self.denoiser, "denoised", x=x, sigma=sigma, labels=labels)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """float32 mV [row, 8, n_samples] at the card's fs."""
        return self._run(self.decoder, "sig", latents=latents)

    def _run(self, session: Any, output: str, **inputs: np.ndarray) -> np.ndarray:
        """On CUDA filled up to a power of two, with the last row again: cuDNN searches its
        algorithms anew for each new batch size. A CPU would compute the filling for nothing."""
        n = len(next(iter(inputs.values())))
        bucket = 1 << (n - 1).bit_length() if self.device == "cuda" else n
        if bucket > n:
            rows = np.minimum(np.arange(bucket), n - 1)
            inputs = {name: a[rows] for name, a in inputs.items()}
        return session.run([output], inputs)[0][:n]


def load_generator(folder: Path, device: Device = "auto", threads: int = 1) -> Generator:
    """The model in `folder`, or StoreError; arguments as for `load_classifier`."""
    card = read_card(folder / CARD, GeneratorCard)
    denoiser = _verified(folder / DENOISER, card.sha256)
    decoder = _verified(folder / DECODER, card.decoder_sha256)
    return open_generator(card, denoiser, decoder, device, threads)


def open_generator(
    card: GeneratorCard, denoiser: bytes, decoder: bytes, device: Device, threads: int = 1
) -> Generator:
    """From verified weights, wherever they came from; StoreError where they cannot be run."""
    session, used = open_session(denoiser, device, threads)
    wide = next(i.shape[1] for i in session.get_inputs() if i.name == "labels")
    flow_map = card.diffusion.flow_map
    given = n_features(card.statements) + (1 + flow_map.n_levels if flow_map else 0)
    if wide != given:
        raise StoreError(
            f"{card.name}'s {DENOISER} takes {wide} label features, this version gives {given}: "
            "export it again with the version that trained it"
        )
    return Generator(card, used, session, open_session(decoder, device, threads)[0])


def cuda_offered() -> bool:
    """Whether the installed ONNX Runtime was built for CUDA; it may still not run here."""
    return "CUDAExecutionProvider" in ort.get_available_providers()


def open_session(
    weights: bytes, device: Device, threads: int
) -> tuple[ort.InferenceSession, Literal["cpu", "cuda"]]:
    """An ONNX Runtime session and the device that it really runs on."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted = ["CPUExecutionProvider"]
    if device != "cpu" and cuda_offered():
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN as installed from packages
        wanted.insert(0, "CUDAExecutionProvider")
    try:
        session = ort.InferenceSession(weights, options, providers=wanted)
    except Exception as error:  # the library leaks many kinds
        raise StoreError(f"ONNX Runtime cannot run these weights: {error}") from error
    used = "cuda" if session.get_providers()[0] == "CUDAExecutionProvider" else "cpu"
    if device == "cuda" and used != "cuda":
        raise StoreError(
            "CUDA was asked for, but ONNX Runtime cannot run on it here: it needs the package "
            "onnxruntime-gpu, an NVIDIA driver and a visible GPU"
        )
    return session, used


def _verified(path: Path, sha256: str) -> bytes:
    try:
        weights = path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"no weights at {path}") from None
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise StoreError(f"{path} is not what its card describes: the sha256 differs")
    return weights
