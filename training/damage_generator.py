"""python -m training.damage_generator: a denoiser that learns a defect, to be found and repaired.

    python -m training.damage_generator wide_qrs --run runs/denoiser --out runs/wide

It goes on learning from real ECGs with a known defect planted into each (`training.refine.damage`):
P waves in AFIB, widened QRS, chest leads of another ECG. Nothing that it makes is to be served.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training import config as configs
from training import processes
from training.export_generator import load as load_run
from training.ldm.denoiser import DenoiserConfig, DenoisingLoss
from training.ldm.latents import LabelConfig, LatentBatches, encode_all
from training.loop import train
from training.refine.damage import DAMAGES
from training.refine.step import RefineConfig
from training.shards import load
from training.train_autoencoder import load_autoencoder, whole_segments
from training.train_classifier import TRAIN


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    loop = configs.load(RefineConfig, "refine", args.preset, args.overrides).loop
    known = json.loads((args.run / "run.json").read_text())
    model, _ = load_run(args.run, known)
    part = whole_segments(load(args.data)).folds(TRAIN)
    damaged = DAMAGES[args.damage][0](part, np.random.default_rng(loop.seed))
    statements = tuple(known["statements"])
    latents = encode_all(load_autoencoder(Path(known["autoencoder"])), [damaged], statements)
    offset, scale = (np.array(known[k], np.float32)[:, None] for k in ("offset", "scale"))
    batches = LatentBatches(latents, statements, offset, scale, LabelConfig(), loop)
    if processes.is_first():
        args.out.mkdir(parents=True, exist_ok=True)
        known["damage"] = args.damage
        (args.out / "run.json").write_text(json.dumps(known, indent=1))
    loss = DenoisingLoss(DenoiserConfig(**known["config"]["model"]))
    loop = replace(loop, eval_every=loop.steps)
    train(model.train(), loss, batches, lambda _: {"score": 0.0}, loop, args.out, args.minutes)


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.damage_generator", description=described.partition(": ")[2],
        epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("damage", choices=DAMAGES)
    configs.add_arguments(p, "refine")
    p.add_argument("--run", type=Path, default=Path("runs/denoiser"))
    p.add_argument("--out", type=Path, required=True, help="the damaged one's run")
    p.add_argument("--data", type=Path, default=Path("runs/data/ptb-xl.npz"), help="a shard")
    p.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
    return p


if __name__ == "__main__":
    main()
