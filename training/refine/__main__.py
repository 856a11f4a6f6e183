"""python -m training.refine EXPORT: a generator refined by what raters said of its ECGs.

    python -m service.studies export STUDY --out export
    python -m training.refine export --run runs/denoiser --out runs/refined

A reward is learned from the ratings, and the denoiser learns from its own ECGs that the reward
holds for good, with at least as many real ones. What it becomes is compared with what it was; where
a guard falls beyond its bound, the new version is kept but refused. The next study is made with the
current version (runs/refined/N/store), and its export goes here again, beside the earlier ones.

--rollback goes back to the version before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training import config as configs
from training.refine.look import Bench
from training.refine.page import write_page
from training.refine.step import RefineConfig, refine
from training.refine.study import read_all
from training.refine.versions import Versions
from training.shards import load
from training.train_autoencoder import whole_segments


def main() -> None:
    args = parser().parse_args()
    config = configs.load(RefineConfig, "refine", args.preset, args.overrides)
    if args.dry_run:
        print(configs.dump(config))
        return
    versions = Versions(args.out)
    if args.rollback is not None:
        to = versions.roll_back(args.rollback if args.rollback >= 0 else None)
        print(f"version {to} is the current one")
        return
    if not args.exports:
        raise SystemExit("which study? Give the folder that service.studies export wrote")
    ratings = read_all(args.exports)
    print(f"{len(ratings.of)} ratings of {len(ratings.sig)} ECGs by {ratings.who()}")
    bench = bench_of(args.data, args.classifier, config)
    begin(versions, args.run)
    step = refine(versions, lambda number: versions.look(number, bench), ratings, config)
    write_page(versions)
    if not step.accepted:
        raise SystemExit(
            f"refused: {'; '.join(step.reasons)}; version {versions.current} stays the current "
            f"one, and {args.out / 'README.md'} has the figures"
        )
    print(f"version {step.version} is the current one: {versions.store(step.version)}")


def bench_of(path: Path, classifier: Path, config: RefineConfig) -> Bench:
    """Errors: SystemExit where there is no shard."""
    if not path.exists():
        raise SystemExit(f"no shard {path}: run python -m training.prepare first")
    return Bench(path, whole_segments(load(path)), classifier, config.look)


def begin(versions: Versions, run: Path) -> None:
    """Errors: SystemExit where there is no run to begin with, or another one was begun with."""
    if not (run / "run.json").exists():
        raise SystemExit(
            f"no run {run}: train one (training.train_denoiser), or take what is served "
            "(training.import_generator)"
        )
    versions.begin(run)


def parser() -> argparse.ArgumentParser:
    described, _, more = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.refine", description=described.partition(": ")[2],
        epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("exports", type=Path, nargs="*", metavar="EXPORT", help="of closed studies")
    configs.add_arguments(p, "refine")
    add_places(p)
    p.add_argument(
        "--rollback", type=int, nargs="?", const=-1, default=None, metavar="VERSION",
        help="go back, to the version that the current one came from where none is named",
    )  # fmt: skip
    return p


def add_places(p: argparse.ArgumentParser) -> None:
    p.add_argument("--run", type=Path, default=Path("runs/denoiser"), help="to begin with")
    p.add_argument("--out", type=Path, default=Path("runs/refined"), help="where versions are kept")
    p.add_argument("--data", type=Path, default=Path("runs/data/ptb-xl.npz"), help="a shard")
    p.add_argument(
        "--classifier", type=Path, default=Path("models_store/prednet"), help="that reads labels"
    )


if __name__ == "__main__":
    main()
