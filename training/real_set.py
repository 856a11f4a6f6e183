"""python -m training.real_set: real ECGs of fold 10 with their labels, prepared as generated ones.

    python -m training.real_set --data runs/data/ptb-xl.npz --out real.npz
    python -m service.studies create --real real.npz:20 --generated ldm:20 ...

The layout is that of `training.generate`, with the statements of each ECG (`present`) and a
pseudonym of its patient. No generator learned from fold 10.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

from ecg.generated import twelve_leads, write_npz
from ecg.labels import Labels
from training.shards import CODES, SEXES, Shard, load
from training.train_autoencoder import whole_segments
from training.train_classifier import REPORT

SUBSTRATES = {0: "normal", 1: "abnormal"}


def main() -> None:
    args = parser().parse_args()
    if args.out.suffix != ".npz":
        raise SystemExit(f"--out {args.out}: a set ends in .npz")
    part = one_a_patient(whole_segments(load(args.data)).folds(REPORT))
    if not len(part.sig):
        raise SystemExit(f"{args.data}: fold 10 has no whole 12-lead ECG")
    if args.n is not None and args.n < len(part.sig):
        rng = np.random.default_rng(args.seed)
        part = part.records(
            np.isin(np.arange(len(part.label)), rng.permutation(len(part.label))[: args.n])
        )
    beside = args.out.with_name(f"{args.out.name}.part")
    with beside.open("wb") as f:
        write(f, part)
    beside.replace(args.out)
    print(f"{len(part.sig)} real ECGs of as many patients in {args.out}")


def one_a_patient(part: Shard) -> Shard:
    """The first record of each patient, which has one segment."""
    segments = np.bincount(part.record, minlength=len(part.label))
    _, first = np.unique(part.patient, return_index=True)
    keep = np.zeros(len(part.label), dtype=bool)
    keep[first] = True
    return part.records(keep & (segments == 1))


def write(file, part: Shard) -> None:
    """NPZ of the part's ECGs, mV [n, time, 12], and what is known of each."""
    labels = [labels_of(part, row) for row in part.record]
    more = {
        "synthetic": np.array(False),
        "source": np.array(part.source),
        "present": np.array([" ".join(one.statements) for one in labels]),
        "patient": np.array([pseudonym(part.source, part.patient[row]) for row in part.record]),
    }
    scale = np.float32(part.preparation.scale_mv)
    sig = twelve_leads(part.sig.astype(np.float32) * scale)
    write_npz(file, [sig], labels, part.preparation.fs, 0, more)


def labels_of(part: Shard, row: int) -> Labels:
    """What is known of a record."""
    known = dict(zip(CODES, part.label[row, 1:].tolist(), strict=True))
    age, sex = float(part.age[row]), int(part.sex[row])
    return Labels(
        atrial_substrate=SUBSTRATES.get(int(part.label[row, 0])),
        statements=tuple(code for code, value in known.items() if value == 1),
        age=None if np.isnan(age) else age,
        sex=SEXES[sex] if sex >= 0 else None,
    )


def pseudonym(source: str, patient: str) -> str:
    """The same for the same patient, and not what the source calls them."""
    return hashlib.sha256(f"{source}/{patient}".encode()).hexdigest()[:16]


def parser() -> argparse.ArgumentParser:
    described, _, example = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.real_set", description=described, epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--data", type=Path, required=True, metavar="SHARD", help="prepared records")
    p.add_argument("--out", type=Path, required=True, metavar="SET.npz")
    p.add_argument("-n", type=int, help="how many, drawn; else all")
    p.add_argument("--seed", type=int, default=0)
    return p


if __name__ == "__main__":
    main()
