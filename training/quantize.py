"""python -m training.quantize: stored classifiers -> one in int8, beside its own card.

    python -m training.quantize models_store/prednet-large --version 1.2.0 --store runs/staging
    python -m training.promote runs/staging/prednet --as prednet

Several models are averaged as one network, `--shares` to each. Convolutions take int8 weights, a
scale a channel, and 8-bit activations, whose ranges are read off segments of folds 1 to 8 under
the lead sets that the service sees. The first convolutions, which read millivolts, stay in float
(LOG.md says what it costs if they do not). Calibration, thresholds and the record rule are chosen
on fold 9 anew, as is every figure of the card.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from ecg.card import ClassifierCard, TrainingData
from ecg.errors import StoreError
from ecg.prepare import sample_mask
from ecg.store import CARD, WEIGHTS, Classifier, load_classifier, open_session
from training.batches import lead_set_mask
from training.evaluate import Outputs, headlines, judged
from training.export import INPUTS, of_evaluation, without_traces, write_table
from training.graphs import first_convolutions, masks_apart, mean_of
from training.promotion.classifiers import lead_sets, outputs_of
from training.shards import Shard, load_all
from training.train_classifier import CHOOSE, REPORT, TRAIN


def main() -> None:
    args = parser().parse_args()
    models = [load(folder) for folder in args.models]
    shares = check(models, args.shares)
    folder = args.store / args.name
    if folder.resolve() in [model.resolve() for model in args.models]:
        raise SystemExit(f"{folder} is one of the models: name another with --name or --store")
    parts = list(load_all(args.data))
    if parts[0].preparation != models[0].card.preparation:
        raise SystemExit(f"{args.data} was prepared otherwise than {args.models[0]}'s card says")
    graphs = [onnx.load(model / WEIGHTS) for model in args.models]
    whole = masks_apart(mean_of(graphs, shares))
    keep = kept_in_float(whole, args.keep_float)
    training = [p.folds(TRAIN) for p in parts]
    segments = list(calibration_segments(training, args.segments, args.seed))
    weights = quantized(whole, segments, keep, args.percentile, args.full_range)
    model = Classifier(models[0].card, "cpu", open_session(weights, "cpu", 1)[0])
    outputs = {
        fold: [o for p in parts for o in under_each_lead_set(model, p.folds((fold,)))]
        for fold in (*CHOOSE, *(REPORT if args.report else ()))
    }
    evaluation = judged(outputs, model.card.statements, [p.source for p in parts])
    card = describe(models, shares, args, weights, evaluation)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CARD).write_text(card.model_dump_json(indent=1) + "\n")
    write_table(args.store)
    for told in headlines(evaluation["metrics"]):
        print(told)
    print(f"{folder}: {len(weights) / 2**20:.2f} MiB, sha256 {card.sha256[:12]}…")


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.quantize", description=described, epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("models", type=Path, nargs="+", help="folders of weights and card")
    p.add_argument("--shares", type=float, nargs="+", help="of the mean, one a model; else alike")
    p.add_argument("--version", required=True)
    p.add_argument("--name", default="prednet")
    p.add_argument("--store", type=Path, default=Path("runs/staging"))
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    p.add_argument("--segments", type=int, default=1024, help="that ranges are read off")
    p.add_argument("--percentile", type=float, default=99.999, help="of values within the range")
    p.add_argument("--seed", type=int, default=0, help="of the segments drawn")
    p.add_argument(
        "--keep-float", nargs="+", default=[], metavar="PART",
        help="convolutions, by a part of their name, beside the first ones",
    )  # fmt: skip
    p.add_argument(
        "--full-range", action="store_true",
        help="weights of 8 bits, not 7: sums overflow, and answers differ, where a processor "
        "lacks VNNI",
    )  # fmt: skip
    p.add_argument("--report", action="store_true", help="fold 10 too, once all is chosen")
    return p


def load(folder: Path) -> Classifier:
    """The classifier in the folder. Errors: SystemExit."""
    try:
        return load_classifier(folder, "cpu")
    except StoreError as error:
        raise SystemExit(f"{folder} holds no classifier: {error}") from None


def check(models: Sequence[Classifier], shares: Sequence[float] | None) -> list[float]:
    """Each model's share. Errors: SystemExit where they cannot be averaged."""
    first = models[0].card
    for model in models[1:]:
        for key in ("statements", "implying_statements", "preparation"):
            if getattr(model.card, key) != getattr(first, key):
                raise SystemExit(f"{model.card.name} and {first.name} differ in their {key}")
    if shares is None:
        return [1.0] * len(models)
    if len(shares) != len(models) or min(shares) <= 0:
        raise SystemExit(f"--shares: {len(models)} numbers above 0 are needed, one a model")
    return list(shares)


def kept_in_float(graph: onnx.ModelProto, named: Sequence[str]) -> list[str]:
    """Names of convolutions. Errors: SystemExit where one that is asked for is not there."""
    names = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    for part in named:
        if not any(part in name for name in names):
            raise SystemExit(f"--keep-float {part}: the convolutions are {', '.join(names)}")
    return first_convolutions(graph) + [n for n in names if any(part in n for part in named)]


def calibration_segments(parts: Sequence[Shard], n: int, seed: int) -> Iterator[dict]:
    """What the network is given, a segment each: as many of each part and lead set."""
    rng = np.random.default_rng(seed)
    places = [(part, lead_set) for part in parts if len(part.sig) for lead_set in lead_sets(part)]
    for part, lead_set in places:
        drawn = min(len(part.sig), max(1, n // len(places)))
        for i in rng.choice(len(part.sig), drawn, replace=False):
            mask = (part.lead_mask[i : i + 1] * lead_set_mask(lead_set)).astype(np.float32)
            sig = part.sig[i : i + 1].astype(np.float32)
            known = sample_mask(part.n_valid[i : i + 1], sig.shape[2])
            yield dict(zip(INPUTS, (sig, mask, known), strict=True))


class Reader(CalibrationDataReader):
    """What ONNX Runtime's calibration reads."""

    def __init__(self, segments: Sequence[dict]) -> None:
        self.left = iter(segments)

    def get_next(self) -> dict:
        return next(self.left, None)  # type: ignore[return-value]


def quantized(
    graph: onnx.ModelProto,
    segments: Sequence[dict],
    keep: Sequence[str],
    percentile: float = 99.999,
    full_range: bool = False,
) -> bytes:
    """Static quantisation with QDQ nodes, which ONNX Runtime fuses where it has int8 kernels.

    Ranges to a percentile: one extreme sample would cost all others their resolution. A lower one
    clips what is rare and large, as pacemakers and ventricular beats are.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        before, after = Path(name) / "float.onnx", Path(name) / "int8.onnx"
        onnx.save(graph, before)
        quant_pre_process(before, before, skip_symbolic_shape=True)
        quantize_static(
            before,
            after,
            Reader(segments),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=list(keep),
            per_channel=True,
            reduce_range=not full_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": percentile},
        )
        return without_traces(onnx.load(after)).SerializeToString()


def under_each_lead_set(model: Classifier, part: Shard) -> list[Outputs]:
    return [outputs_of(model, part, s) for s in lead_sets(part)] if len(part.label) else []


def describe(
    models: Sequence[Classifier],
    shares: Sequence[float],
    args: argparse.Namespace,
    weights: bytes,
    evaluation: dict,
) -> ClassifierCard:
    """The first model's card, with what is no longer so said anew."""
    cards = [model.card for model in models]
    sources: dict[str, TrainingData] = {}
    for data in (data for card in cards for data in card.training_data):
        if data.name not in sources or sources[data.name].records < data.records:
            sources[data.name] = data
    of = [f"{c.name} {c.version} ({c.architecture})" for c in cards]
    bits = "int8" if args.full_range else "int8 (7 bits of weights)"
    said = f"{bits}, first convolutions in float, of {of[0]}"
    if len(cards) > 1:
        said = (
            f"{bits}, first convolutions in float, of the mean, by shares "
            f"{':'.join(f'{s:g}' for s in shares)}, of {' and '.join(of)}"
        )
    return ClassifierCard.model_validate(
        {
            **cards[0].model_dump(),
            "name": args.name,
            "version": args.version,
            "created": date.today().isoformat(),
            "architecture": said,
            "n_parameters": sum(card.n_parameters for card in cards),
            "sha256": hashlib.sha256(weights).hexdigest(),
            "chosen_on": "fold 9 (weights, preparation, calibration, thresholds, record rule, what "
            "is averaged and what is int8); ranges of activations on folds 1 to 8",
            "training_data": tuple(data.model_dump() for _, data in sorted(sources.items())),
            **of_evaluation(evaluation),
        }
    )


if __name__ == "__main__":
    main()
