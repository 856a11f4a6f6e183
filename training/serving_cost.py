"""python -m training.serving_cost: what each network would cost to serve, beside PredNet.

One thread of ONNX Runtime, batches of 1 and of 16; networks take turns, so that what else the
machine does meets all of them. Weights are random: they cost the same as trained ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from training.export import INPUTS, example, export_onnx, parity
from training.networks.registry import NETWORKS, SIZES, NetworkConfig, build

BATCHES = (1, 16)
N_OUTPUTS, N_SAMPLES = 45, 1000


@dataclass(frozen=True)
class Measured:
    """`ms` a segment, by batch size, the median; `difference` between torch and ONNX Runtime."""

    n_parameters: int
    size_mib: float
    difference: float
    ms: dict[int, float]


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(1)
    print(table(measure(args.networks, args.rounds, args.size, args.outputs)))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m training.serving_cost", description=(__doc__ or "").partition(": ")[2]
    )
    p.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    p.add_argument(
        "--rounds", type=int, default=30, help="turns of each network; the median counts"
    )
    p.add_argument("--size", choices=SIZES, default="full")
    p.add_argument("--outputs", type=int, default=N_OUTPUTS)
    return p


def measure(
    names: list[str], rounds: int, size: str = "full", n_outputs: int = N_OUTPUTS
) -> dict[str, Measured]:
    """PredNet first, which is measured even if it is not asked for."""
    names = list(dict.fromkeys([NetworkConfig.name, *names]))
    return measure_models({name: build(name, n_outputs, size=size) for name in names}, rounds)


def measure_models(models: Mapping[str, nn.Module], rounds: int) -> dict[str, Measured]:
    """What each network costs, exported with the weights that it has."""
    sessions, known = {}, {}
    for name, model in models.items():
        model = model.eval()
        with tempfile.TemporaryDirectory() as folder:
            weights = export_onnx(model, N_SAMPLES, Path(folder) / "model.onnx")
        known[name] = (
            sum(p.numel() for p in model.parameters()),
            len(weights) / 2**20,
            parity(model, weights, N_SAMPLES),
        )
        sessions[name] = one_thread(weights)
    ms = turns(sessions, rounds)
    return {name: Measured(*known[name], ms[name]) for name in models}


def one_thread(weights: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])


def turns(sessions: dict[str, ort.InferenceSession], rounds: int) -> dict[str, dict[int, float]]:
    """Median ms a segment of each network and batch size; the first turn is not counted."""
    taken: dict[str, dict[int, list[float]]] = {name: {n: [] for n in BATCHES} for name in sessions}
    for turn in range(rounds + 1):
        for n in BATCHES:
            feeds = dict(zip(INPUTS, (x.numpy() for x in example(n, N_SAMPLES)), strict=True))
            for name, session in sessions.items():
                started = time.perf_counter()
                session.run(None, feeds)
                if turn:
                    taken[name][n].append((time.perf_counter() - started) / n * 1e3)
    return {
        name: {n: float(np.median(times)) for n, times in by_size.items()}
        for name, by_size in taken.items()
    }


def table(found: dict[str, Measured]) -> str:
    """Markdown, a row a network, with ratios to PredNet."""
    first = found[NetworkConfig.name]
    columns = "".join(f" ms a segment, batches of {n} | to PredNet |" for n in BATCHES)
    lines = [
        f"| network | parameters | ONNX, MiB | torch - ONNX Runtime |{columns}",
        "|---" * (4 + 2 * len(BATCHES)) + "|",
    ]
    for name, m in found.items():
        cells = "".join(f" {m.ms[n]:.2f} | {m.ms[n] / first.ms[n]:.2f} |" for n in BATCHES)
        lines.append(
            f"| {name} | {m.n_parameters:,} | {m.size_mib:.2f} | {m.difference:.0e} |{cells}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
