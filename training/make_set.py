"""python -m training.make_set NAME: generated ECGs with the labels of real records, as a shard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ecg.labels import Labels
from training.generators import METHODS, Maker, load
from training.judging.fidelity import with_signals
from training.ldm.latents import labels_of
from training.shards import Shard, save
from training.shards import load as load_shard
from training.subsets import subset
from training.train_autoencoder import whole_segments
from training.train_classifier import CHOOSE, REPORT, TRAIN
from training.train_generator import add_subset

FOLDS = {"train": TRAIN, "9": CHOOSE, "10": REPORT}
AT_ONCE = 256


def main() -> None:
    args = parser().parse_args()
    if args.out.suffix != ".npz":
        raise SystemExit(f"--out {args.out}: a shard ends in .npz")
    sampler = {"num_steps": args.num_steps, "guidance_scale": args.guidance_scale}
    maker = load(args.name, args.run, **{k: v for k, v in sampler.items() if v is not None})
    like = subset(whole_segments(load_shard(args.like)), args.fraction, args.subset_seed)
    made = made_like(maker, like.folds(FOLDS[args.folds]), args.k, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    beside = args.out.with_name(f"part-{args.out.name}")
    save(made, beside)
    beside.replace(args.out)
    print(f"{len(made.sig)} ECGs in {args.out}")


def made_like(maker: Maker, part: Shard, k: float, seed: int) -> Shard:
    """`k` ECGs made to the labels of each of the part's segments; of a part of k, to those of as
    many segments drawn by chance. Of one seed, a smaller k gives the first of a larger one."""
    rows = repeated(len(part.sig), k, seed)
    if not len(rows):
        raise SystemExit(f"k {k:g} of {len(part.sig)} segments is no ECG at all")
    labels = [labels_of(part, i, maker.statements) for i in range(len(part.sig))]
    sig = made_all(maker, [labels[i] for i in rows], seed)
    return with_signals(records_of(part, rows), sig, "generated")


def repeated(n: int, k: float, seed: int) -> np.ndarray:
    """round(k * n) of the rows 0 to n - 1: each of them once, in an order of the seed, then each
    once again, and so on."""
    if k <= 0:
        raise SystemExit(f"k {k:g}: above 0")
    rounds = (np.random.default_rng((seed, i)).permutation(n) for i in range(int(k) + 1))
    return np.concatenate(list(rounds))[: round(k * n)]


def made_all(maker: Maker, labels: Sequence[Labels], seed: int) -> np.ndarray:
    """As `maker.make`, with progress; part after part, each of a seed of its own."""
    made = []
    with tqdm(total=len(labels), unit=" ECGs", mininterval=5) as bar:
        for i, start in enumerate(range(0, len(labels), AT_ONCE)):
            asked = labels[start : start + AT_ONCE]
            drawn = np.random.SeedSequence((seed, i)).generate_state(1)[0]
            made.append(maker.make(asked, int(drawn)))
            bar.update(len(asked))
    return np.concatenate(made)


def records_of(part: Shard, rows: np.ndarray) -> Shard:
    """The segments `rows`, some several times, each as the only one of a record."""
    record = part.record[rows]
    columns = ("label", "strat_fold", "patient", "age", "sex")
    return Shard(
        **{
            **vars(part),
            **{name: getattr(part, name)[rows] for name in ("sig", "lead_mask", "n_valid")},
            **{name: getattr(part, name)[record] for name in columns},
            "record": np.arange(len(rows), dtype=np.int32),
        }
    )


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m training.make_set", description=__doc__)
    p.add_argument("name", choices=METHODS, metavar="NAME", help=", ".join(METHODS))
    p.add_argument(
        "--run", type=Path, required=True,
        help="of training.train_generator; for ldm also a folder of the model store",
    )  # fmt: skip
    p.add_argument("--like", type=Path, required=True, metavar="SHARD", help="whose labels")
    p.add_argument("--folds", choices=FOLDS, default="train")
    add_subset(p)
    p.add_argument("-k", type=float, default=1.0, help="ECGs for each of the records; 0.5 is some")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--num-steps", type=int, help="of ddpm and ldm; the run's own if not given")
    p.add_argument("--guidance-scale", type=float, help="of ddpm and ldm; 1 is off")
    p.add_argument("--out", type=Path, required=True, metavar="SET.npz")
    return p


if __name__ == "__main__":
    main()
