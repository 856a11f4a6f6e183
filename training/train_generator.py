"""python -m training.train_generator NAME: any of the generators, from prepared shards."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from training import config as configs
from training.generators import METHODS
from training.generators.maker import Given
from training.shards import load_all
from training.subsets import subset
from training.train_autoencoder import whole_segments


def main() -> None:
    args = parser().parse_args()
    parts = {part.source: part for part in load_all(args.data)}
    if args.source not in parts:
        raise SystemExit(f"--source {args.source}: {args.data} has {', '.join(parts)}")
    given = Given(
        name=args.name,
        part=subset(whole_segments(parts[args.source]), args.fraction, args.subset_seed),
        fraction=args.fraction,
        subset_seed=args.subset_seed,
        run=args.run or Path("runs") / args.name,
        preset=args.preset,
        overrides=tuple(args.overrides),
        minutes=args.minutes,
        dry_run=args.dry_run,
    )
    METHODS[args.name].train(given)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m training.train_generator", description=__doc__)
    each = p.add_subparsers(dest="name", metavar="NAME", required=True)
    for name, method in METHODS.items():
        one = each.add_parser(name, help=method.said, description=method.said)
        one.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards")
        one.add_argument("--source", default="ptb-xl", help="the shard that it learns from")
        one.add_argument("--run", type=Path, help="resumed if begun; runs/NAME if not given")
        add_subset(one)
        one.add_argument("--minutes", type=float, default=math.inf, help="stop after, resumably")
        if method.presets:
            configs.add_arguments(one, method.presets)
        else:
            one.set_defaults(preset="none", overrides=[], dry_run=False)
    return p


def add_subset(parser: argparse.ArgumentParser) -> None:
    """Which of the training records there are."""
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="of the training folds' records, by patient"
    )
    parser.add_argument(
        "--subset-seed", type=int, default=0, help="which; of one seed less lies inside more"
    )


if __name__ == "__main__":
    main()
