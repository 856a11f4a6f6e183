"""python -m training.dataset export: a set of synthetic ECGs, checked, as it can be published.

    python -m training.generate --balance -n 20000 --out set.npz
    python -m training.dataset export set.npz --out published

No ECG of it may be nearer to one that the generator learned from than any ECG of a patient whom it
never saw (fold 9): where one is, the command refuses, or leaves it out with --drop. From the same
set come the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ecg.card import GeneratorCard, read_card
from ecg.draw import print_png
from ecg.errors import StoreError
from ecg.generated import Generated, csv_rows, write_npz
from ecg.labels import Labels
from ecg.leads import INDEPENDENT_LEADS, LEADS
from ecg.store import CARD
from training.generate import write_wfdb
from training.judging.novelty import nearest
from training.publishing.data_card import Check, Facts, data_card, readme
from training.publishing.generated_set import GeneratedSet, open_set
from training.shards import SEXES, Shard, load_all
from training.sources import own
from training.train_classifier import CHOOSE, TRAIN

INDEPENDENT = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]
SUMS = "SHA256SUMS"
NAMED = 20  # rows that a refusal names


def main() -> None:
    args = parser().parse_args()
    if args.out.exists():
        raise SystemExit(f"{args.out} is there already: remove it, or name another")
    try:
        card = read_card(args.store / args.name / CARD, GeneratorCard)
    except StoreError as error:
        raise SystemExit(f"{error}: --store and --name say which generator made the set") from None
    given = open_set(args.set, card, args.seed, args.num_steps, args.guidance_scale)
    licence = args.licence or common_licence(card)
    training, held_out = references(args.data, card)
    distance, check = compare(given, training, held_out)
    keep = distance >= check.bound
    if not keep.all() and not args.drop:
        raise SystemExit(refusal(args.set, distance, check))
    if not keep.any():
        raise SystemExit(f"{args.set}: no ECG is left, all are nearer than {check.bound:.4f}")
    facts = Facts(
        card=card,
        given=given,
        version=args.version,
        licence=licence,
        labels=list(itertools.compress(given.labels, keep)),
        rows=np.flatnonzero(keep),
        distance=distance[keep],
        dropped=distance[~keep],
        check=check,
    )
    beside = args.out.with_name(f"{args.out.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    write(beside, facts, min(args.png, len(facts.rows)))
    beside.replace(args.out)
    print(
        f"{len(facts.rows)} ECGs in {args.out}, {len(facts.dropped)} left out; none is nearer to a "
        f"training ECG than {facts.distance.min():.4f}, the bound is {check.bound:.4f}"
    )


def parser() -> argparse.ArgumentParser:
    described, _, example = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(prog="python -m training.dataset", description=described)
    verbs = p.add_subparsers(required=True, metavar="VERB")
    export = verbs.add_parser(
        "export", description=described, epilog=example, help="a set that can be published",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    export.add_argument("set", type=Path, help="NPZ of training.generate, or a generated shard")
    export.add_argument("--out", type=Path, required=True, help="a new folder")
    export.add_argument(
        "--data", type=Path, default=Path("runs/data"),
        help="prepared shards: all that the generator learned from, and their fold 9",
    )  # fmt: skip
    export.add_argument("--store", type=Path, default=Path("models_store"))
    export.add_argument("--name", default="ldm", help="the generator that made it")
    export.add_argument("--drop", action="store_true", help="leave out what is too near")
    export.add_argument("--png", type=int, default=8, metavar="K", help="prints of K ECGs")
    export.add_argument("--version", default="1.0.0", help="of the published set")
    export.add_argument("--licence", help="that of what the generator learned from, if it is one")
    for_shards = export.add_argument_group("of a shard, which does not say it itself")
    for_shards.add_argument("--seed", type=int)
    for_shards.add_argument("--num-steps", type=int)
    for_shards.add_argument("--guidance-scale", type=float)
    return p


def common_licence(card: GeneratorCard) -> str:
    """That of all training data. Errors: SystemExit where there are several, or none that is
    public."""
    licences = sorted({d.licence for d in card.training_data})
    if len(licences) != 1 or licences == [own.LICENCE]:
        raise SystemExit(
            f"{card.name} learned from data of {' and '.join(licences) or 'no named'} licence: "
            "name the one of what it generates with --licence"
        )
    return licences[0]


def references(folder: Path, card: GeneratorCard) -> tuple[list[Shard], list[Shard]]:
    """All records that the generator learned from, and those of patients whom it never saw.
    Errors: SystemExit where not all of them are there."""
    parts = {part.source: part for part in load_all(folder)}
    training, held_out = [], []
    for data in card.training_data:
        if data.name not in parts:
            raise SystemExit(
                f"{folder} holds no {data.name}, from which {card.name} learned: a copy could not "
                "be found; prepare it with training.prepare"
            )
        part = parts[data.name]
        training.append(part.folds(TRAIN))
        held_out.append(part.folds(CHOOSE))
        if (n := len(training[-1].label)) != data.records:
            raise SystemExit(
                f"{folder}: {data.name} has {n} training records, and {card.name} learned from "
                f"{data.records}: give the shard that it was trained with"
            )
    if not any(len(part.sig) for part in held_out):
        raise SystemExit(f"{folder}: fold 9 is empty, so nothing says how near strangers come")
    return training, held_out


def compare(
    given: GeneratedSet, training: Sequence[Shard], held_out: Sequence[Shard]
) -> tuple[np.ndarray, Check]:
    """The distance of each ECG of the set to the nearest training ECG, and by what it is judged."""
    held = [distances(part.sig, part.preparation.fs, training) for part in held_out]
    strangers = np.concatenate(held)
    found = []
    with tqdm(total=len(given.labels), unit=" ECGs", mininterval=2, desc="compared") as bar:
        for sig in given.chunks():
            found.append(distances(sig[:, INDEPENDENT], given.fs, training))
            bar.update(len(sig))
    return np.concatenate(found), Check(
        bound=float(strangers.min()),
        strangers=strangers,
        n_training=sum(len(part.label) for part in training),
        n_held_out=sum(len(part.label) for part in held_out),
        sources=tuple(part.source for part in training),
    )


def distances(sig: np.ndarray, fs: float, training: Sequence[Shard]) -> np.ndarray:
    """Of each ECG, mV [n, 8, n_samples], to the nearest of all parts."""
    for part in training:
        if (part.preparation.fs, part.sig.shape[2]) != (fs, sig.shape[2]):
            raise SystemExit(
                f"{part.source} was prepared at {part.preparation.fs:g} Hz with {part.sig.shape[2]}"
                f" samples, and the set has {fs:g} Hz and {sig.shape[2]}: they cannot be compared"
            )
    each = [nearest(sig, part.sig, part.lead_mask, fs).distance for part in training]
    return np.min(each, axis=0)


def refusal(path: Path, distance: np.ndarray, check: Check) -> str:
    near = np.flatnonzero(distance < check.bound)
    named = ", ".join(f"{row} ({distance[row]:.4f})" for row in near[:NAMED])
    more = f" and {len(near) - NAMED} more" if len(near) > NAMED else ""
    return (
        f"{path}: {len(near)} of {len(distance)} ECGs are nearer to a training ECG than "
        f"{check.bound:.4f}, the nearest of {check.n_held_out} patients' whom the generator never "
        f"saw; rows {named}{more}. Leave them out with --drop"
    )


def write(folder: Path, facts: Facts, n_prints: int) -> None:
    """Everything that is published."""
    given, labels = facts.given, facts.labels
    with (folder / "ecgs.npz").open("wb") as f:
        write_npz(f, kept(facts), labels, given.fs, given.seed, arrays(facts))
    with (folder / "ecgs.csv").open("wb") as f:
        start = 0
        for sig in kept(facts):
            f.writelines(csv_rows(sig, labels[start : start + len(sig)]))
            start += len(sig)
    records = list(
        write_wfdb(folder / "wfdb", kept(facts), facts.rows, labels, given.fs, given.seed)
    )
    names = [f"wfdb/{name}" for name in records]
    (folder / "RECORDS").write_text("".join(f"{name}\n" for name in names))
    write_labels(folder / "labels.csv", facts, names)
    draw(folder / "prints", facts, n_prints)
    (folder / "README.md").write_text(readme(facts, n_prints))
    (folder / "DATA_CARD.md").write_text(data_card(facts))
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    sums = (f"{sha256(folder / name)}  {name}\n" for name in files)
    (folder / SUMS).write_text("".join(sums))


def kept(facts: Facts) -> Iterator[np.ndarray]:
    """The published ECGs, mV [k, 12, time] at a time."""
    start = 0
    for sig in facts.given.chunks():
        rows = facts.rows[(facts.rows >= start) & (facts.rows < start + len(sig))]
        if len(rows):
            yield sig[rows - start]
        start += len(sig)


def arrays(facts: Facts) -> dict[str, np.ndarray]:
    """What the NPZ says of each ECG beside its label: the row of the set that it was; statements
    [n, codes] asked for as present (1), absent (0) or not given (-1); NaN and -1 are not given."""
    codes, labels = facts.card.statements, facts.labels
    absent = [0 if x.complete else -1 for x in labels]
    asked = [
        [1 if c in x.statements else a for c in codes] for x, a in zip(labels, absent, strict=True)
    ]
    made_by = {
        "name": facts.card.name,
        "version": facts.card.version,
        "sha256": facts.card.sha256,
        "decoder_sha256": facts.card.decoder_sha256,
        "num_steps": facts.given.num_steps,
        "guidance_scale": facts.given.guidance_scale,
    }
    return {
        "row": facts.rows.astype(np.int64),
        "codes": np.array(codes, dtype=np.str_),
        "asked": np.array(asked, dtype=np.int8),
        "age": _numbers([x.age for x in labels]),
        "heart_rate": _numbers([x.heart_rate for x in labels]),
        "sex": np.array([SEXES.index(x.sex) if x.sex else -1 for x in labels], dtype=np.int8),
        "distance": facts.distance.astype(np.float32),
        "generator": np.array(json.dumps(made_by)),
    }


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float32)


def write_labels(path: Path, facts: Facts, names: Sequence[str]) -> None:
    """A row an ECG: what it was asked to be, and how near it comes to a training ECG."""
    columns = ("row", "record", *asdict(Labels()), "distance")
    with path.open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(columns)
        given = zip(facts.rows, names, facts.labels, facts.distance, strict=True)
        for row, name, labels, distance in given:
            said = {**asdict(labels), "statements": " ".join(labels.statements)}
            writer.writerow([row, name, *said.values(), f"{distance:.4f}"])


def draw(folder: Path, facts: Facts, k: int) -> None:
    """Prints of k ECGs, evenly spaced over the set."""
    if k == 0:
        return
    folder.mkdir()
    wanted = set(np.linspace(0, len(facts.rows) - 1, k).astype(int).tolist())
    for i, sig in enumerate(itertools.chain.from_iterable(kept(facts))):
        if i in wanted:
            one = Generated(sig[None], facts.given.fs, facts.labels[i], facts.given.seed)
            (folder / f"{facts.rows[i]:09d}.png").write_bytes(print_png(one.record(0)))


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


if __name__ == "__main__":
    main()
