"""Train on synthetic, test on real: what a classifier learns from generated ECGs.

(Esteban, Hyland and Rätsch 2017, doi 10.48550/arXiv.1706.02633.) The classifier and its training
are the same whatever it is trained on; fold 9 chooses its weights, fold 10 is only read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training.batches import BatchConfig, TrainingBatches
from training.config import load as load_preset
from training.loop import Batches, LoopConfig, train
from training.metrics import auroc, common_columns, macro_auroc
from training.networks.registry import NetworkConfig, of_config
from training.shards import Shard, load
from training.subsets import subset
from training.train_autoencoder import whole_segments
from training.train_classifier import (
    CHOOSE,
    REPORT,
    TRAIN,
    ClassifierConfig,
    classification_loss,
    columns,
    covered_statements,
    logits_of,
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One classifier to train: on which shards, folds 1-8 of each, and from which seed.

    `fraction`: of the real training records, as if there were no more; the statements stay those
    of all. `generated_share`: of each batch, where it is not each shard's by its size.
    `pretrained`: the share of the steps that come first, on what is generated alone; the others see
    the rest. `settings` are the network's own.
    """

    name: str
    training: tuple[str, ...]  # paths of shards
    real: str  # path of the shard that gives fold 9 and fold 10
    seed: int
    steps: int
    preset: str = "cpu"
    fraction: float = 1.0
    generated_share: float | None = None
    pretrained: float = 0.0
    network: str = NetworkConfig.name
    settings: dict[str, Any] = field(default_factory=dict)

    def described(self) -> str:
        """What an outcome is kept under. What is as it was before there was a choice is not named:
        outcomes from then stay what they are."""
        said = asdict(self)
        for name in ("fraction", "generated_share", "pretrained", "network"):
            if said[name] == getattr(Trial, name):
                del said[name]
        if not self.settings:
            del said["settings"]
        return json.dumps(said)


@dataclass(frozen=True)
class Outcome:
    """A trained classifier's logits on the real folds 9 and 10: {fold: [record, output]}."""

    trial: Trial
    statements: tuple[str, ...]
    logits: dict[int, np.ndarray]


def run_all(trials: Sequence[Trial], folder: Path, workers: int) -> list[Outcome]:
    """Outcomes in the order of the trials, `workers` at a time; those already in `folder` are
    read."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(trial, folder / trial.name) for trial in trials]
    if workers == 1:
        return [run(*job) for job in jobs]
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=one_thread) as pool:
        return list(pool.map(run, *zip(*jobs, strict=True)))


def one_thread() -> None:
    """Processes of one thread each do more together than processes that share their threads."""
    torch.set_num_threads(1)


def run(trial: Trial, folder: Path) -> Outcome:
    """Train the trial's classifier, or read what it left."""
    real = whole_segments(load(Path(trial.real)))
    statements = covered_statements([real.folds(TRAIN)])
    paths = {fold: folder / f"logits-{fold}.npy" for fold in (*CHOOSE, *REPORT)}
    described = trial.described()
    kept = folder / "trial.json"
    if kept.exists() and kept.read_text() == described:
        return Outcome(trial, statements, {fold: np.load(p) for fold, p in paths.items()})
    folder.mkdir(parents=True, exist_ok=True)
    model = fit(trial, real, statements, folder)
    logits = {fold: logits_of(model, real.folds((fold,)), "12 leads")[0] for fold in paths}
    for fold, path in paths.items():
        np.save(path, logits[fold])
    kept.write_text(described)
    return Outcome(trial, statements, logits)


def fit(trial: Trial, real: Shard, statements: tuple[str, ...], folder: Path) -> nn.Module:
    """The weights that fold 9 chose."""
    preset = load_preset(ClassifierConfig, "prednet", trial.preset, [])
    loop = LoopConfig(
        **{
            **asdict(preset.loop),
            "steps": trial.steps,
            "seed": trial.seed,
            "eval_every": max(1, trial.steps // 6),
        }
    )
    parts = [training_part(trial, path) for path in trial.training]
    batches = batches_of(trial, parts, columns(statements), loop, preset.batch)
    held_out = real.folds(CHOOSE)
    label = segment_labels(held_out, statements)

    def evaluate(ema: nn.Module) -> dict[str, float]:
        figures = scores(label, logits_of(ema, held_out, "12 leads")[0])
        return {**figures, "score": float(np.mean(list(figures.values())))}

    torch.manual_seed(trial.seed)
    model = untrained(trial.preset, trial.network, trial.settings, 1 + len(statements))
    for stale in ("checkpoint.pt", "best.pt"):
        (folder / stale).unlink(missing_ok=True)
    train(model, classification_loss, batches, evaluate, loop, folder)
    model.load_state_dict(torch.load(folder / "best.pt", map_location="cpu", weights_only=True))
    return model.cpu().eval()


def untrained(preset: str, network: str, settings: dict[str, Any], n_outputs: int) -> nn.Module:
    """The network of that name; PredNet's sizes are the preset's."""
    config = load_preset(ClassifierConfig, "prednet", preset, [])
    chosen = replace(config.network, name=network, settings=settings)
    return of_config(asdict(replace(config, network=chosen)), n_outputs)


def training_part(trial: Trial, path: str) -> Shard:
    part = load(Path(path))
    return (subset(part, trial.fraction, 0) if path == trial.real else part).folds(TRAIN)


def batches_of(
    trial: Trial, parts: list[Shard], outputs: list[int], loop: LoopConfig, config: BatchConfig
) -> Batches:
    """By the trial's mixture of real and generated segments."""
    share = trial.generated_share
    if share is not None:
        real = [part.source for part in parts if part.source != "generated"]
        shares = {source: (1 - share) / len(real) for source in real}
        config = replace(config, source_share={**shares, "generated": share})

    def of(parts: list[Shard]) -> TrainingBatches:
        return TrainingBatches(parts, outputs, loop.batch_size, loop.seed, config)

    if not trial.pretrained:
        return of(parts)
    before = of([part for part in parts if part.source == "generated"])
    after = of([part for part in parts if part.source != "generated"])
    turn = round(trial.pretrained * trial.steps)
    return lambda step, *where: (before if step < turn else after)(step, *where)


def segment_labels(part: Shard, statements: Sequence[str]) -> np.ndarray:
    """int8 [segment, 1 + statements]: each segment's record's."""
    return part.label[part.record][:, columns(tuple(statements))]


def scores(label: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """AUROC of the atrial substrate, and macro over the statements with enough positives."""
    common = 1 + common_columns(label[:, 1:])
    figures = {"atrial": auroc(label[:, 0], logits[:, 0])}
    if len(common):
        figures["macro"] = macro_auroc(label, logits, common)
    return figures


def mean_score(
    name: str, label: np.ndarray, logits: Iterable[np.ndarray], common: np.ndarray
) -> float:
    """Macro or atrial AUROC, the mean over classifiers of several seeds."""
    if name == "macro":
        return float(np.mean([macro_auroc(label, x, common) for x in logits]))
    return float(np.mean([auroc(label[:, 0], x[:, 0]) for x in logits]))
