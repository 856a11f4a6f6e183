"""python -m training.export: a run -> models_store/, weights and card together."""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from ecg.card import ClassifierCard, Metric, TrainingData
from ecg.decision import Calibration, RecordRule
from ecg.leads import INDEPENDENT_LEADS
from ecg.store import CARD, WEIGHTS
from training.evaluate import RUNS
from training.networks.registry import NETWORKS, NetworkConfig
from training.prednet import N_LEADS, Committee, load_model, run_description
from training.shards import preparation_from
from training.sources import cinc2017, generated, own, ptbxl

MAX_DIFFERENCE = 1e-4
INPUTS = ("sig", "lead_mask", "sample_mask")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--run", type=Path, nargs="+", default=[Path("runs/prednet")], help=RUNS)
    parser.add_argument("--version", required=True)
    parser.add_argument("--name", default="prednet")
    parser.add_argument("--store", type=Path, default=Path("models_store"))
    args = parser.parse_args()
    model = load_model(*args.run)
    preparation = run_description(args.run[0])["preparation"]
    weights = export_onnx(model, preparation["n_samples"], args.run[0] / WEIGHTS)
    difference = parity(model, weights, preparation["n_samples"])
    if difference > MAX_DIFFERENCE:
        raise SystemExit(
            f"refused: ONNX Runtime and torch differ by {difference:.2g}, over {MAX_DIFFERENCE:g}"
        )
    card = describe(args.run[0], args.name, args.version, model, weights)
    folder = args.store / args.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    write_table(args.store)
    print(f"{folder}: {len(weights) / 2**20:.2f} MiB, parity {difference:.1e}")


def export_onnx(model: nn.Module, n_samples: int, path: Path) -> bytes:
    """Write the network with a free batch size; returns the file's bytes."""
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model,
        example(2, n_samples),
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        dynamo=True,
        verbose=False,
    )
    weights = without_traces(program.model_proto).SerializeToString()
    path.write_bytes(weights)
    return weights


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The exporter notes where in whose files each node came from: that stays here."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def example(n: int, n_samples: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Inputs with missing leads and padding."""
    rng = np.random.default_rng(seed)
    sig = rng.standard_normal((n, N_LEADS, n_samples))
    lead_mask = rng.random((n, N_LEADS)) < 0.7
    lead_mask[:, 0] = True
    n_valid = rng.integers(n_samples // 2, n_samples + 1, size=n)
    sample_mask = np.arange(n_samples) < n_valid[:, None]
    return tuple(torch.tensor(a, dtype=torch.float32) for a in (sig, lead_mask, sample_mask))


def parity(model: nn.Module, weights: bytes, n_samples: int) -> float:
    """The largest difference of any output between torch and ONNX Runtime, over batch sizes."""
    session = ort.InferenceSession(weights, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in (1, 3, 16):
        inputs = example(n, n_samples, seed=n)
        with torch.inference_mode():
            expected = model(*inputs).numpy()
        feeds = {name: x.numpy() for name, x in zip(INPUTS, inputs, strict=True)}
        worst = max(worst, float(np.abs(session.run(None, feeds)[0] - expected).max()))
    return worst


def describe(
    run: Path, name: str, version: str, model: nn.Module, weights: bytes
) -> ClassifierCard:
    """The card, out of what the run and its evaluation wrote down."""
    known = run_description(run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    preparation = preparation_from(known["preparation"])
    return ClassifierCard(
        name=name,
        version=version,
        created=date.today().isoformat(),
        architecture=architecture(model, known["config"]),
        n_parameters=sum(p.numel() for p in model.parameters()),
        sha256=hashlib.sha256(weights).hexdigest(),
        fs=preparation.fs,
        n_samples=preparation.n_samples,
        leads=INDEPENDENT_LEADS,
        statements=tuple(known["statements"]),
        preparation=preparation,
        chosen_on="fold 9 (weights, preparation, calibration, thresholds, record rule)",
        **of_evaluation(evaluation),
        training_data=training_data(known["sources"]),
        licence="Apache-2.0",
        intended_use="Research on atrial substrate and on serving ECG models.",
        not_for="Diagnosis, triage or treatment of patients. It is not a medical device.",
        limitations=(
            "'Abnormal' is an open proxy, any of AFIB, AFLT, LAO/LAE and RAO/RAE in PTB-XL; "
            "published atrial-substrate labels (low-voltage areas by mapping) are private.",
            "Adults from one German centre and hand-held recordings; other devices, children and "
            "paced rhythms are not tested.",
            "Statements with few training examples are weak: see their metrics.",
            "Long records: one false alarm in any segment raises the record's probability.",
        ),
    )


def of_evaluation(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What of the card `training.evaluate` chose and measured."""
    return {
        "implying_statements": tuple(evaluation["implying_statements"]),
        "calibration": tuple(
            Calibration(**{k: tuple(v) if isinstance(v, list) else v for k, v in c.items()})
            for c in evaluation["calibration"]
        ),
        "record_rule": RecordRule(**evaluation["record_rule"]),
        "metrics": tuple(
            Metric(**{**m, "value": round(m["value"], 4), "interval": _rounded(m["interval"])})
            for m in evaluation["metrics"]
        ),
    }


def architecture(model: nn.Module, config: dict[str, Any]) -> str:
    network = NetworkConfig(**config.get("network", {}))
    said = NETWORKS[network.name].said
    if network.name == NetworkConfig.name:
        said += f", widths {config['model']['widths']}"
    if isinstance(model, Committee):
        said += f", mean of {len(model.members)} networks"
    if teachers := config.get("teacher", {}).get("runs"):
        said += f", taught by the mean of {len(teachers)}"
    return said


def training_data(sources: dict[str, int]) -> tuple[TrainingData, ...]:
    """What the card says of each source, with its number of training records."""
    modules = {m.NAME: m for m in (ptbxl, cinc2017, generated, own)}
    return tuple(
        TrainingData(
            name=name,
            records=n,
            licence=modules[name].LICENCE,
            citation=modules[name].CITATION,
        )
        for name, n in sources.items()
    )


def _rounded(interval: list[float] | None) -> tuple[float, float] | None:
    return (round(interval[0], 4), round(interval[1], 4)) if interval else None


def write_table(store: Path) -> None:
    """models_store/README.md: a row a model, read from the cards."""
    rows = []
    for path in sorted(store.glob(f"*/{CARD}")):
        card = json.loads(path.read_text())
        size = sum(f.stat().st_size for f in path.parent.glob("*.onnx")) / 2**20
        data = "; ".join(f"{d['name']} ({d['licence']})" for d in card["training_data"])
        rows.append(
            f"| [{path.parent.name}]({path.parent.name}/{CARD}) | {card['version']} | "
            f"{card['task']} | "
            f"{card['n_parameters']:,} | {size:.1f} MiB | {data} | {card['licence']} |"
        )
    (store / "README.md").write_text(
        "# Served models\n\n"
        "Written by `python -m training.export` and `training.promote`; read by `ecg.store`, which "
        "refuses weights whose hash is not the card's.\n"
        "For research; not for the care of patients.\n\n"
        "| model | version | task | parameters | weights | trained on (licence) | licence |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()
