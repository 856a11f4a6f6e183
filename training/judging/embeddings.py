"""Embeddings in which sets of ECGs are compared: features [n, f] of mV [n, 8, time].

Each has its blind spots, so there are four of different kinds: what a trained classifier looks at,
what a network sees that had no part in making the generator, what a cardiologist measures, and
random convolutions, which no training can have biased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from training import beats
from training.beats import MEASURES, measure_all
from training.prednet import PredNet, load_model, run_description

BATCH = 64
N_KERNELS, LENGTHS, DILATIONS = 512, (7, 9, 11), (1, 2, 4, 8, 16, 32, 64)
TYPICAL_MV = 0.2  # of a lead's standard deviation: random thresholds are drawn in units of it


@dataclass(frozen=True)
class Embedding:
    """`about`: a sentence for the report. `of`: float [n, features] of mV [n, 8, time]. `key`: of
    the weights or the code that it depends on."""

    name: str
    about: str
    of: Callable[[np.ndarray], np.ndarray]
    key: str = ""

    def cached(self, sig: np.ndarray, folder: Path) -> np.ndarray:
        """`of`, made once for these signals."""
        return kept(folder, f"{self.name}{self.key}-{digest(sig)}", lambda: self.of(sig))


def kept(folder: Path, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of that name in the folder, made where it is not there yet."""
    path = folder / f"{name}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        with beside.open("wb") as f:
            np.save(f, make())
        beside.replace(path)
    return np.load(path)


def digest(*arrays: np.ndarray) -> str:
    said = hashlib.sha256()
    for a in arrays:
        said.update(str((a.dtype, a.shape)).encode())
        said.update(np.ascontiguousarray(a).tobytes())
    return said.hexdigest()[:12]


def embeddings(classifier: Path, independent: Path | None, fs: float) -> list[Embedding]:
    """The classifier's folder in the store; a run of `training.train_classifier` on another source
    than the generator's, where there is one."""
    weights = classifier / "model.onnx"
    about = f"what the stored {classifier.name} pools before its last layer"
    out = [Embedding("prednet", about, stored_features(classifier), _key(weights))]
    if independent is not None:
        sources = " and ".join(run_description(independent)["sources"])
        about = f"what a network trained on {sources} alone pools of each lead by itself"
        weights = independent / "best.pt"
        out.append(Embedding("independent", about, lead_by_lead(independent), _key(weights)))
    about = f"{len(MEASURES)} measures: rates, intervals, amplitudes of each lead, spectrum"
    code = _key(Path(beats.__file__))
    out.append(Embedding("measures", about, lambda sig: measured(sig, fs), code))
    about = f"{N_KERNELS} random convolutions over the leads, never trained"
    out.append(Embedding("random", about, random_convolutions, f"{N_KERNELS}"))
    return out


def _key(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def _batches(sig: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(sig), BATCH):
        yield np.ascontiguousarray(sig[start : start + BATCH], dtype=np.float32)


def stored_features(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What enters the last linear layers of the stored classifier.

    Errors: SystemExit where the network ends otherwise.
    """
    model = onnx.load(folder / "model.onnx")
    given = {one.name for one in model.graph.input}  # a mask's own linear layer pools nothing
    linear = [n.input[0] for n in model.graph.node if n.op_type == "Gemm"]
    entering = list(dict.fromkeys(name for name in linear if name not in given))
    if not entering:
        raise SystemExit(f"{folder}: the network has no linear layer whose input could be read")
    for name in entering:
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, torch.get_num_threads())
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = [i.name for i in session.get_inputs()]

    def of(sig: np.ndarray) -> np.ndarray:
        out = []
        for part in _batches(sig):
            n, n_leads, n_samples = part.shape
            masks = np.ones((n, n_leads), np.float32), np.ones((n, n_samples), np.float32)
            given = dict(zip(inputs, (part, *masks), strict=True))
            out.append(np.concatenate(session.run(entering, given), axis=1))
        return np.concatenate(out)

    return of


def lead_by_lead(run: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What a run's PredNet pools of each lead, given as the only one: [n, 8 x features]. A network
    that knows single leads judges each of them so."""
    model = load_model(run)
    assert isinstance(model, PredNet)

    def of(sig: np.ndarray) -> np.ndarray:
        return np.concatenate([_pooled_of_leads(model, part) for part in _batches(sig)])

    return of


def _pooled_of_leads(model: PredNet, sig: np.ndarray) -> np.ndarray:
    n, n_leads, n_samples = sig.shape
    alone = torch.zeros(n * n_leads, n_leads, n_samples)
    alone[:, 0] = torch.from_numpy(sig.reshape(-1, n_samples))
    mask = torch.zeros(n * n_leads, n_leads)
    mask[:, 0] = 1
    entering: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, given: entering.append(given[0]))
    with torch.inference_mode():
        model(alone, mask, torch.ones(n * n_leads, n_samples))
    hook.remove()
    return entering[0].numpy().reshape(n, -1)


def measured(sig: np.ndarray, fs: float) -> np.ndarray:
    """The measures, and for each whether it could be measured: [n, 2 x MEASURES]."""
    found = measure_all(sig, fs)
    return np.concatenate([found, np.isnan(found)], axis=1)


def random_convolutions(sig: np.ndarray, seed: int = 0) -> np.ndarray:
    """[n, 2 x N_KERNELS]: how often each convolution exceeds its threshold, and its maximum.

    After ROCKET (Dempster et al. 2020, doi 10.1007/s10618-020-00701-z), over random sets of leads;
    amplitudes are kept, since they too can be wrong.
    """
    kernels = random_kernels(seed, sig.shape[1])
    out = []
    for part in _batches(sig):
        x = torch.from_numpy(part) / TYPICAL_MV
        features = []
        for weight, bias, dilation in kernels:
            y = torch.nn.functional.conv1d(x, weight, bias, padding="same", dilation=dilation)
            features += [(y > 0).float().mean(dim=2), y.amax(dim=2)]
        out.append(torch.cat(features, dim=1).numpy())
    return np.concatenate(out)


def random_kernels(seed: int, n_leads: int) -> list[tuple[Tensor, Tensor, int]]:
    """Weights [k, leads, length] of mean zero, thresholds [k] and dilation, for each length and
    dilation."""
    rng = np.random.default_rng(seed)
    kinds = [(length, dilation) for length in LENGTHS for dilation in DILATIONS]
    of_kind = np.bincount(np.arange(N_KERNELS) % len(kinds))
    out = []
    for (length, dilation), k in zip(kinds, of_kind, strict=True):
        weight = rng.standard_normal((k, n_leads, length))
        weight -= weight.mean(axis=2, keepdims=True)
        # One lead as often as two, four or all of them.
        n_chosen = np.minimum(2 ** rng.integers(0, 4, size=k), n_leads)
        chosen = rng.random((k, n_leads)).argsort(axis=1) < n_chosen[:, None]
        weight *= chosen[:, :, None] / np.sqrt(n_chosen)[:, None, None]
        bias = rng.uniform(-1, 1, size=k)
        arrays = (torch.from_numpy(a.astype(np.float32)) for a in (weight, bias))
        out.append((*arrays, dilation))
    return out
