"""python -m training.train_classifier: ECG-PredNet, or another network, from prepared shards."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from training import config as configs
from training import processes
from training.batches import BatchConfig, TrainingBatches, lead_set_mask
from training.loop import LoopConfig, Loss, train
from training.metrics import auroc, common_columns, macro_auroc
from training.networks.registry import NetworkConfig, of_config
from training.prednet import PredNetConfig, load_model, run_description
from training.shards import CODES, Shard, load_all

TRAIN, CHOOSE, REPORT = tuple(range(1, 9)), (9,), (10,)
MIN_TRAINING_POSITIVES = 15


@dataclass(frozen=True)
class TeacherConfig:
    """Distillation (Hinton et al. 2015, doi 10.48550/arXiv.1503.02531): `runs`, averaged as one
    network, say what they make of each segment, and `share` of the loss is to agree with them."""

    runs: tuple[str, ...] = ()
    share: float = 0.8


@dataclass(frozen=True)
class ClassifierConfig:
    model: PredNetConfig = field(default_factory=PredNetConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.train_classifier", description=__doc__
    )
    configs.add_arguments(parser, "prednet")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
    parser.add_argument("--run", type=Path, default=Path("runs/prednet"), help="resumed if begun")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    args = parser.parse_args()
    config = configs.load(ClassifierConfig, "prednet", args.preset, args.overrides)
    parts = list(load_all(args.data))
    training = [part.folds(TRAIN) for part in parts]
    statements = covered_statements(training)
    set_seed(config.loop.seed)
    model = of_config(asdict(config), 1 + len(statements))
    n_parameters = sum(p.numel() for p in model.parameters())
    processes.say(
        f"{config.network.name}: {n_parameters:,} parameters; the atrial substrate and "
        f"{len(statements)} statements"
    )
    if args.dry_run:
        processes.say(configs.dump(config))
        return
    processes.agree(configs.dump(config), parts)
    if processes.is_first():
        refuse_another_network(args.run, config.network.name)
        args.run.mkdir(parents=True, exist_ok=True)
        save_run(args.run, config, statements, parts)
    batches = TrainingBatches(
        training, columns(statements), config.loop.batch_size, config.loop.seed, config.batch
    )
    held_out = [held for part in parts if len((held := part.folds(CHOOSE)).label)]
    train(
        model,
        distillation_loss(config.teacher, statements) or classification_loss,
        batches,
        lambda ema: validate(ema, held_out, statements),
        config.loop,
        args.run,
        args.minutes,
    )


def covered_statements(training: list[Shard]) -> tuple[str, ...]:
    """The statements with enough positives to learn from."""
    positives = sum((part.label[:, 1:] == 1).sum(axis=0) for part in training)
    absent = sum((part.label[:, 1:] == 0).sum(axis=0) for part in training)
    return tuple(
        code
        for code, n, n_absent in zip(CODES, positives, absent, strict=True)
        if n >= MIN_TRAINING_POSITIVES and n_absent > 0
    )


def columns(statements: tuple[str, ...]) -> list[int]:
    """The shard's label columns that the network's outputs stand for."""
    return [0, *(1 + CODES.index(code) for code in statements)]


def classification_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    logits = model(batch["sig"], batch["lead_mask"], batch["sample_mask"]).float()
    return masked_cross_entropy(logits, batch["label"])


def masked_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy over what is known; unknown labels (-1) are masked.

    Gradients are averaged over processes, of which each knows another number of labels: a label
    counts the same in all of them.
    """
    known = (label >= 0).float()
    bce = nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    return (bce * known).sum() / processes.mean_over_processes(known.sum()).clamp(min=1e-6)


def distillation_loss(config: TeacherConfig, statements: tuple[str, ...]) -> Loss | None:
    """The loss under the teacher's eyes, None where there is none. The teacher has an opinion on
    every output, so one that nobody labelled is learned too."""
    if not config.runs:
        return None
    runs = [Path(run) for run in config.runs]
    if any(tuple(run_description(run)["statements"]) != statements for run in runs):
        raise SystemExit("the teacher knows other statements than the data")
    teacher = load_model(*runs).requires_grad_(False)

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        inputs = batch["sig"], batch["lead_mask"], batch["sample_mask"]
        with torch.no_grad():
            taught = torch.sigmoid(teacher.to(inputs[0].device)(*inputs).float())
        logits = model(*inputs).float()
        agreement = nn.functional.binary_cross_entropy_with_logits(logits, taught)
        labelled = masked_cross_entropy(logits, batch["label"])
        return config.share * agreement + (1 - config.share) * labelled

    return loss


def logits_of(
    model: nn.Module, part: Shard, lead_set: str, batch_size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """float32 [segment, outputs] with only the leads of `lead_set`, and known leads [segment]."""
    device = next(model.parameters()).device
    mask = part.lead_mask.astype(np.float32) * lead_set_mask(lead_set)
    width = part.sig.shape[2]
    sample_mask = (np.arange(width) < part.n_valid[:, None]).astype(np.float32)
    out = []
    with torch.inference_mode():
        for start in range(0, len(mask), batch_size):
            rows = slice(start, start + batch_size)
            sig = torch.from_numpy(part.sig[rows].astype(np.float32)).to(device)
            masks = (torch.from_numpy(a[rows]).to(device) for a in (mask, sample_mask))
            out.append(model(sig, *masks).float().cpu().numpy())
    return np.concatenate(out), mask.sum(axis=1)


def highest(logits: np.ndarray, part: Shard) -> np.ndarray:
    """[record, outputs]: each record's highest segment."""
    best = np.full((len(part.label), logits.shape[1]), -np.inf, dtype=logits.dtype)
    np.maximum.at(best, part.record, logits)
    return best


def validate(
    model: nn.Module, held_out: list[Shard], statements: tuple[str, ...]
) -> dict[str, float]:
    """Fold-9 AUROCs by source and lead set; `score`, their mean, chooses the weights."""
    figures: dict[str, float] = {}
    afib = 1 + statements.index("AFIB") if "AFIB" in statements else None
    for part in held_out:
        has_chest_leads = part.lead_mask[:, 2:].any()
        for lead_set in ("12 leads", "lead II") if has_chest_leads else ("12 leads",):
            label = part.label[:, columns(statements)]
            score = highest(logits_of(model, part, lead_set)[0], part)
            name = f"{part.source}/{lead_set}".replace(" ", "_")
            figures[f"{name}/atrial"] = auroc(label[:, 0], score[:, 0])
            if afib is not None:
                figures[f"{name}/AFIB"] = auroc(label[:, afib], score[:, afib])
            if len(common := common_columns(label[:, 1:])) > 1:
                figures[f"{name}/macro"] = macro_auroc(label[:, 1:], score[:, 1:], common)
    figures = {name: figure for name, figure in figures.items() if not math.isnan(figure)}
    if not figures:
        raise SystemExit("fold 9 cannot choose the weights: no output has both classes there")
    return {**figures, "score": float(np.mean(list(figures.values())))}


def refuse_another_network(run: Path, name: str) -> None:
    """A run goes on as it began. Errors: SystemExit where it began with another network."""
    if not (run / "run.json").exists():
        return
    begun = NetworkConfig(**run_description(run)["config"].get("network", {})).name
    if begun != name:
        raise SystemExit(f"{run} trains {begun}, not {name}: give another --run")


def save_run(
    run: Path, config: ClassifierConfig, statements: tuple[str, ...], parts: list[Shard]
) -> None:
    """What evaluation and export need to know of a run, beside its weights."""
    known = {
        "config": json.loads(configs.dump(config)),
        "statements": statements,
        "preparation": json.loads(configs.dump(parts[0].preparation)),
        "sources": {p.source: int(np.isin(p.strat_fold, TRAIN).sum()) for p in parts},
    }
    (run / "run.json").write_text(json.dumps(known, indent=2))


if __name__ == "__main__":
    main()
