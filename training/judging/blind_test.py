"""Whether a network that learned to tell generated from real ECGs can do so with ones not seen.

(A classifier two-sample test: Lopez-Paz and Oquab 2017, doi 10.48550/arXiv.1610.06545.) It learns
on folds 1-8 and ECGs generated with their labels; none of fold 10's labels is seen before it is
read. 0.5 is perfect; 1 means that generated ECGs give themselves away, by whatever it may be.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.batches import BatchConfig, TrainingBatches
from training.loop import LoopConfig, train
from training.metrics import auroc, bootstrap
from training.prednet import PredNet, PredNetConfig
from training.shards import Shard
from training.train_classifier import classification_loss, logits_of

# Nothing but amplitude is disturbed: noise would hide that generated ECGs lack it.
BATCHES = BatchConfig(
    lead_set_share={}, random_leads=0.0, shorter=0.0, gain=0.05, noise_mv=0.0, spread=0.0
)
MODEL = PredNetConfig(widths=(32, 48, 64, 96, 128))
N_RESAMPLES = 1000


def blind_test(
    training: tuple[Shard, Shard],
    held_out: tuple[Shard, Shard],
    folder: Path,
    steps: int,
    seed: int = 0,
) -> dict:
    """AUROC on `held_out` of a network trained on `training`, each (real, generated), with its
    interval over patients. Resumed from `folder`, whose name must say what it is of."""
    loop = LoopConfig(
        steps=steps, batch_size=64, warmup=min(50, steps // 4), ema=0.98, seed=seed,
        eval_every=steps, save_every_s=60,
    )  # fmt: skip
    said = json.dumps({"loop": asdict(loop), "model": asdict(MODEL)})
    described = folder / "blind.json"
    if described.exists() and described.read_text() != said:
        raise SystemExit(f"{folder} was begun with other settings: remove it to begin anew")
    folder.mkdir(parents=True, exist_ok=True)
    described.write_text(said)
    parts = [_asked(part, y) for y, part in enumerate(training)]
    sizes = {f"{y}": float(min(len(p.sig) for p in parts)) for y in range(2)}
    batches = TrainingBatches(
        parts, [0], loop.batch_size, seed, replace(BATCHES, source_share=sizes)
    )
    torch.manual_seed(seed)
    model = PredNet(1, MODEL)
    # Evaluated once, at the end: nothing of what is held out chooses the weights.
    train(model, classification_loss, batches, lambda _: {"score": 0.0}, loop, folder)
    model.load_state_dict(torch.load(folder / "best.pt", map_location="cpu", weights_only=True))
    return read(model.cpu().eval(), held_out)


def read(model: nn.Module, held_out: tuple[Shard, Shard]) -> dict:
    """AUROC with its interval; a generated ECG counts to the patient whose labels it has."""
    score = np.concatenate([logits_of(model, part, "12 leads")[0][:, 0] for part in held_out])
    label = np.repeat([0, 1], [len(part.sig) for part in held_out])
    patient = np.concatenate([part.patient[part.record] for part in held_out])
    return {
        "value": auroc(label, score),
        "interval": bootstrap(lambda rows: auroc(label[rows], score[rows]), patient, N_RESAMPLES),
        "n": [len(part.sig) for part in held_out],
    }


def _asked(part: Shard, y: int) -> Shard:
    """The part with one label: generated or not."""
    label = np.full_like(part.label, -1)
    label[:, 0] = y
    return replace(part, source=f"{y}", label=label)
