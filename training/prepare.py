"""python -m training.prepare: databases in their official layouts -> prepared shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from ecg.prepare import Denoising, Preparation
from training import shards
from training.sources import cinc2017, generated, own, ptbxl

STEPS = {
    "none": Preparation(highpass_hz=None),
    "highpass": Preparation(),
    "denoised": Preparation(denoising=Denoising("sym4", 4, 0.5)),
}


def main() -> None:
    args = _arguments().parse_args()
    preparation = STEPS[args.steps]
    jobs = {}
    if args.ptb_xl:
        jobs[ptbxl.NAME] = ptbxl.load(args.ptb_xl)
    if args.cinc2017:
        jobs[cinc2017.NAME] = cinc2017.load(args.cinc2017)
    if args.generated:
        jobs[generated.NAME] = generated.load(args.generated)
    if args.own:
        if not (args.fs and args.leads and args.units):
            raise SystemExit("--own needs --fs, --leads and --units: files of numbers carry none")
        jobs[own.NAME] = own.load(args.own, args.fs, args.leads.split(","), args.units)
    if not jobs:
        raise SystemExit("nothing to prepare: give --ptb-xl, --cinc2017, --generated or --own")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, records in jobs.items():
        shard = shards.build(name, tqdm(records, desc=name, unit=" records"), preparation)
        shards.save(shard, args.out / f"{name}.npz")
        print(f"{name}: {len(shard.label)} records, {len(shard.sig)} segments -> {args.out}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.prepare", description=__doc__)
    parser.add_argument("--ptb-xl", type=Path, help="PTB-XL, its folder or zip")
    parser.add_argument("--cinc2017", type=Path, help="CinC 2017's training set, folder or zip")
    parser.add_argument(
        "--generated", type=Path, help="a set of training.generate, for a teacher to label"
    )
    parser.add_argument("--own", type=Path, help="your own ECGs: data [N, time, lead], label [N]")
    parser.add_argument("--fs", type=float, help="of --own, in Hz")
    parser.add_argument("--leads", help="of --own, for example II or I,II,V1")
    parser.add_argument("--units", choices=("mV", "uV"), help="of --own")
    parser.add_argument("--out", type=Path, default=Path("runs/data"))
    parser.add_argument("--steps", choices=STEPS, default="highpass", help="of the preparation")
    return parser


if __name__ == "__main__":
    main()
