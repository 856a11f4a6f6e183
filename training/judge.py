"""python -m training.judge: a generated set beside real ECGs, whatever made it.

    python -m training.judge --set training-0.npz fold-10.npz --data runs/data --out report

The set is one shard or several, as `training.shards` writes them: generated ECGs, each with the
labels, the fold and the patient's name of a real record. Nothing is fitted to fold 10, which is
what the set is compared with. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training import membership
from training.judging import distances
from training.judging.beside_real import Case, judge
from training.judging.embeddings import Embedding, embeddings
from training.judging.page import write_page
from training.shards import Shard, load
from training.train_autoencoder import whole_segments


def main() -> None:
    args = parser().parse_args()
    path = args.data / f"{args.source}.npz" if args.data.is_dir() else args.data
    if not path.exists():
        raise SystemExit(f"{path} is not there: run python -m training.prepare first")
    real = whole_segments(load(path))
    case = Case(
        real=real,
        made=joined([load(p) for p in args.set]),
        embeddings=chosen(args, real.preparation.fs),
        work=args.work,
        steps=args.blind_steps,
        runs=tuple(args.denoisers),
        autoencoder=args.autoencoder,
        noises=args.noises,
    )
    check(case)
    found = {"sets": [p.stem for p in args.set], "source": args.source, **judge(case)}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "judgement.json").write_text(json.dumps(found, indent=1) + "\n")
    write_page(args.out / "index.html", found)
    print(args.out / "index.html")


def parser() -> argparse.ArgumentParser:
    described, _, example = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.judge", description=described, epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--set", type=Path, nargs="+", required=True, help="shards of generated ECGs")
    p.add_argument("--data", type=Path, default=Path("runs/data"), help="prepared shards, or one")
    p.add_argument("--source", default="ptb-xl", help="the shard that the generator learned from")
    p.add_argument("--store", type=Path, default=Path("models_store"))
    add_judges(p)
    p.add_argument("--autoencoder", type=Path, help="a run, for membership inference")
    p.add_argument("--work", type=Path, default=Path("runs/judge"), help="resumed if begun")
    p.add_argument("--out", type=Path, required=True)
    return p


def add_judges(p: argparse.ArgumentParser) -> None:
    """What `training.evaluate_generator` takes too."""
    p.add_argument(
        "--features", default="prednet-large",
        help="a stored classifier that learned from real ECGs alone; what it pools is an embedding",
    )  # fmt: skip
    p.add_argument(
        "--independent", type=Path, default=Path("runs/rhythm"), metavar="RUN",
        help="of training.train_classifier on data that the generator never saw; left out where "
        "it is not there",
    )  # fmt: skip
    p.add_argument("--blind-steps", type=int, default=400, help="of the blind test's network")
    p.add_argument(
        "--denoisers", type=Path, nargs="*", default=[], metavar="RUN",
        help="of training.train_denoiser, the earliest first, for membership inference",
    )  # fmt: skip
    p.add_argument(
        "--noises", type=int, default=membership.N_NOISES, help="of each loss, for the same"
    )


def chosen(args: argparse.Namespace, fs: float) -> list[Embedding]:
    """The embeddings that there are the networks for."""
    run = args.independent
    if not (run / "best.pt").exists():
        print(f"{run} is not there: no independent network's embedding")
        run = None
    return embeddings(args.store / args.features, run, fs)


def joined(parts: Sequence[Shard]) -> Shard:
    """One shard of all. Errors: SystemExit where they were prepared differently."""
    one = parts[0]
    if any(part.preparation != one.preparation for part in parts):
        raise SystemExit("the sets were prepared differently: judge each by itself")
    start = np.cumsum([0, *(len(part.label) for part in parts)])
    record = [part.record + k for part, k in zip(parts, start, strict=False)]
    names = ("sig", "lead_mask", "n_valid", "label", "strat_fold", "patient", "age", "sex")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(one, record=np.concatenate(record).astype(np.int32), **arrays)


def check(case: Case) -> None:
    """Errors: SystemExit that says what a set must be."""
    made, real = case.made, case.real
    if made.sig.shape[1:] != real.sig.shape[1:]:
        raise SystemExit(
            f"the set has segments {made.sig.shape[1:]}, the data {real.sig.shape[1:]}"
        )
    if not np.isfinite(made.sig).all():
        raise SystemExit("the set has values that are no numbers")
    for folds, what in ((case.training, "folds 1-8"), (case.held_out, "fold 10, or 8")):
        if len(made.folds(folds).sig) < 2 * distances.K_NEAREST:
            raise SystemExit(f"the set has too few ECGs with labels of {what} to be judged")


if __name__ == "__main__":
    main()
