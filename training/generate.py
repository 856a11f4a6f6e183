"""python -m training.generate: a set of synthetic ECGs, of any size, from the stored generator.

    python -m training.generate --label abnormal -n 20000 --out set.npz

Interrupted, the same command goes on from the last shard. With --ray the machines of a Ray cluster
make them, the same ones; what is needed there is in README.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ecg.card import GeneratorCard
from ecg.draw import print_png
from ecg.generated import Generated, csv_rows, implied, twelve_leads, wfdb_record, write_npz
from ecg.generation import generate_many
from ecg.labels import MAX_AGE, MAX_HEART_RATE, MIN_HEART_RATE, Labels
from ecg.sampler import SamplerError, course
from ecg.store import DECODER, DENOISER, Generator, load_generator
from training import cluster

SHARD = 1000  # ECGs of 32 kB each
SUBSTRATES = ("normal", "abnormal")
MACHINES = "machines.json"


@dataclass(frozen=True)
class Plan:
    """Everything that the ECGs of a set depend on, but for how many there are."""

    sha256: str
    decoder_sha256: str
    seed: int
    labels: tuple[Labels, ...]  # row i has labels[i % len(labels)]
    num_steps: int
    guidance_scale: float

    def of(self, row: int) -> Labels:
        return self.labels[row % len(self.labels)]


def main() -> None:
    args = parser().parse_args()
    out: Path = args.out
    if out.exists():
        raise SystemExit(f"{out} is there already: remove it, or name another")
    if args.ray and args.workers:
        raise SystemExit("--workers is for this machine: with --ray each core takes a batch")
    if args.ray and args.device == "auto":
        args.device = "cpu"  # not whatever each machine happens to have
    generator = load_generator(args.store / args.name, "cpu" if args.ray else args.device)
    parts = out.with_name(f"{out.name}.parts")
    plan = begin(parts, generator, args)
    todo = [rows for rows in shard_rows(args.n) if not is_whole(shard(parts, rows), rows)]
    with (
        tqdm(
            total=args.n, unit=" ECGs", mininterval=2, initial=args.n - sum(map(len, todo))
        ) as bar,
        maker(generator, plan, args, bar) as make,
    ):
        made = make(todo)
        for rows in todo:
            done: list[np.ndarray] = []
            while sum(map(len, done)) < len(rows):
                sig, machine = next(made)
                note(parts, machine)
                done.append(sig)
                bar.update(len(sig))
            save(shard(parts, rows), np.concatenate(done))
    write(out, parts, args.n, plan, generator.card)
    draw(out, parts, min(args.png, args.n), plan, generator.card.fs)
    print(f"{args.n} ECGs in {out}; seed {plan.seed}")
    if len(kinds := machines(parts)) > 1:
        print(f"Their last digits depend on which of these made them: {'; '.join(kinds)}")
    shutil.rmtree(parts)


@contextmanager
def maker(
    generator: Generator, plan: Plan, args: argparse.Namespace, bar: tqdm
) -> Iterator[Callable[[list[range]], Iterator[tuple[np.ndarray, str]]]]:
    """What makes the rows of shards: here, or on a Ray cluster. It yields mV [k, 8, time] in the
    rows' order, none of two shards, with the kind of machine that made them."""
    diffusion = generator.card.diffusion.model_copy(
        update={"num_steps": plan.num_steps, "guidance_scale": plan.guidance_scale}
    )

    def here(shards: list[range]) -> Iterator[tuple[np.ndarray, str]]:
        machine, workers = cluster.machine(generator.device), args.workers or os.cpu_count() or 1
        for rows in shards:
            for sig in generate_many(
                generator, [plan.of(row) for row in rows], rows, plan.seed, diffusion,
                workers=workers, batch_size=args.batch_size,
            ):  # fmt: skip
                yield sig, machine

    if not args.ray:
        yield here
        return
    task = cluster.Task(
        sha256={DENOISER: plan.sha256, DECODER: plan.decoder_sha256},
        seed=plan.seed,
        diffusion=diffusion,
        batch_size=args.batch_size,
        device=args.device,
        versions=cluster.versions(),
    )
    with cluster.connected(args.ray, args.device) as cores:
        sent = cluster.read(args.store / args.name)
        yield lambda shards: cluster.generate_on(
            cores, sent, task, plan.of, cluster.pieces(shards, args.batch_size), bar.write
        )


def parser() -> argparse.ArgumentParser:
    described, _, example = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        prog="python -m training.generate", description=described, epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("-n", type=int, default=64, help="how many; 216913 is the public set's size")
    p.add_argument(
        "--out", type=Path, required=True, help="set.npz, set.csv, or a new folder for WFDB records"
    )
    p.add_argument("--label", choices=SUBSTRATES, help="the atrial substrate")
    p.add_argument("--balance", action="store_true", help="normal and abnormal in turn")
    p.add_argument("--statements", default="", metavar="AFIB,LVH", help="all present in each ECG")
    p.add_argument("--complete", action="store_true", help="and no other statement is present")
    p.add_argument("--age", type=float)
    p.add_argument("--sex", choices=("male", "female"))
    p.add_argument("--heart-rate", type=float, metavar="BPM")
    p.add_argument("--seed", type=int, help="drawn and printed where not given")
    p.add_argument("--num-steps", type=int, help="the card's default where not given")
    p.add_argument("--guidance-scale", type=float, help="1 is off; the card's default otherwise")
    p.add_argument("--png", type=int, default=0, metavar="K", help="prints of the first K, beside")
    p.add_argument("--store", type=Path, default=Path("models_store"))
    p.add_argument("--name", default="ldm")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--workers", type=int, help="batches at a time; this machine's cores")
    p.add_argument("--batch-size", type=int, default=16, help="16 for a CPU, 256 for a GPU")
    p.add_argument(
        "--ray", metavar="ADDRESS",
        help="of the cluster that makes them: HOST:PORT of its head, auto for the one that this "
        "machine is part of, local for this machine alone; --device auto is cpu there",
    )  # fmt: skip
    return p


def begin(parts: Path, generator: Generator, args: argparse.Namespace) -> Plan:
    """The plan, of this command or of the one that it goes on from."""
    labels = asked(args, generator.card.statements)
    if args.n < 1:
        raise SystemExit("-n: at least 1")
    if args.guidance_scale is not None and not 1 <= args.guidance_scale <= 10:
        raise SystemExit("--guidance-scale: 1 (off) to 10")
    if args.num_steps is not None and not 1 <= args.num_steps <= 64:
        raise SystemExit("--num-steps: 1 to 64")
    default = generator.card.diffusion
    try:
        course(
            default,
            args.num_steps or default.num_steps,
            args.guidance_scale or default.guidance_scale,
        )
    except SamplerError as error:
        raise SystemExit(f"--{error.field.replace('_', '-')} {error.detail}") from None
    kept = parts / "plan.json"
    before = json.loads(kept.read_text()) if kept.exists() else None
    seed = args.seed
    if seed is None:
        seed = before["seed"] if before else secrets.randbelow(2**53)
    plan = Plan(
        sha256=generator.card.sha256,
        decoder_sha256=generator.card.decoder_sha256,
        seed=seed,
        labels=labels,
        num_steps=args.num_steps or default.num_steps,
        guidance_scale=args.guidance_scale or default.guidance_scale,
    )
    described = json.loads(json.dumps(asdict(plan)))
    if before is not None and before != described:
        differing = ", ".join(k for k in before if before[k] != described[k])
        raise SystemExit(f"{parts} was begun with another {differing}: remove it to begin anew")
    parts.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(described, indent=1))
    return plan


def asked(args: argparse.Namespace, covered: Sequence[str]) -> tuple[Labels, ...]:
    """The labels that the set's rows take in turn. Errors: SystemExit that says what would do."""
    codes = tuple(dict.fromkeys(c.strip() for c in args.statements.split(",") if c.strip()))
    if unknown := [code for code in codes if code not in covered]:
        raise SystemExit(f"--statements: {unknown[0]} is none of {', '.join(covered)}")
    if args.complete and not codes:
        raise SystemExit("--complete: name the --statements that there are, if not all")
    if args.balance and args.label:
        raise SystemExit("--balance takes both labels in turn: leave --label out")
    if args.age is not None and not 0 <= args.age <= MAX_AGE:
        raise SystemExit(f"--age: 0 to {MAX_AGE:g} years")
    rate = args.heart_rate
    if rate is not None and not MIN_HEART_RATE <= rate <= MAX_HEART_RATE:
        raise SystemExit(f"--heart-rate: {MIN_HEART_RATE:g} to {MAX_HEART_RATE:g} beats a minute")
    labels = []
    for substrate in SUBSTRATES if args.balance else (args.label,):
        given = Labels(substrate, codes, args.age, args.sex, rate, args.complete)
        if implied(given) != substrate and substrate is not None:
            raise SystemExit("normal contradicts --statements, which are abnormal by definition")
        labels.append(replace(given, atrial_substrate=implied(given)))
    return tuple(labels)


def shard_rows(n: int) -> Iterator[range]:
    """The rows of each shard."""
    return (range(start, min(start + SHARD, n)) for start in range(0, n, SHARD))


def shard(parts: Path, rows: range) -> Path:
    return parts / f"{rows.start:09d}.npy"


def note(parts: Path, machine: str) -> None:
    """That this kind of machine made some of the set."""
    if machine not in (kinds := machines(parts)):
        (parts / MACHINES).write_text(json.dumps([*kinds, machine]))


def machines(parts: Path) -> list[str]:
    """The kinds of machine that made the set, one after another."""
    path = parts / MACHINES
    return json.loads(path.read_text()) if path.exists() else []


def is_whole(path: Path, rows: range) -> bool:
    return path.exists() and len(np.load(path, mmap_mode="r")) == len(rows)


def save(path: Path, sig: np.ndarray) -> None:
    """Written beside and renamed: a shard is whole or not there."""
    beside = path.with_suffix(".part")
    with beside.open("wb") as f:
        np.save(f, sig)
    beside.replace(path)


def shards(parts: Path, n: int) -> Iterator[np.ndarray]:
    """The set's ECGs, mV [k, 12, time] at a time."""
    for rows in shard_rows(n):
        yield twelve_leads(np.load(shard(parts, rows)))


def write(out: Path, parts: Path, n: int, plan: Plan, card: GeneratorCard) -> None:
    """The set in the format that the name says, whole or not there."""
    fs = card.fs
    beside = out.with_name(f"{out.name}.part")
    if out.suffix == ".npz":
        with beside.open("wb") as f:
            labels = [plan.of(row) for row in range(n)]
            made_by = {"name": card.name, "version": card.version, **asdict(plan)}
            more = {"generator": np.array(json.dumps(made_by))}
            write_npz(f, shards(parts, n), labels, fs, plan.seed, more)
    elif out.suffix == ".csv":
        with beside.open("wb") as f:
            for k, sig in enumerate(shards(parts, n)):
                f.writelines(csv_rows(sig, [plan.of(SHARD * k + i) for i in range(len(sig))]))
    else:
        shutil.rmtree(beside, ignore_errors=True)
        labels = [plan.of(row) for row in range(n)]
        names = list(write_wfdb(beside, shards(parts, n), range(n), labels, fs, plan.seed))
        (beside / "RECORDS").write_text("".join(f"{name}\n" for name in names))
    beside.replace(out)


def write_wfdb(
    folder: Path,
    chunks: Iterable[np.ndarray],
    rows: Iterable[int],
    labels: Iterable[Labels],
    fs: float,
    seed: int,
) -> Iterator[str]:
    """WFDB records of ECGs, mV [k, 12, time] at a time, SHARD rows a folder; yields their names."""
    ecgs = itertools.chain.from_iterable(chunks)
    for one, row, asked in zip(ecgs, rows, labels, strict=True):
        inside = folder / f"{row // SHARD * SHARD:09d}"
        inside.mkdir(parents=True, exist_ok=True)
        name = f"synthetic_{seed}_{row:09d}"
        for file, content in wfdb_record(name, one, fs, asked).items():
            (inside / file).write_bytes(content)
        yield f"{inside.name}/{name}"


def draw(out: Path, parts: Path, k: int, plan: Plan, fs: float) -> None:
    """Prints of the first k ECGs, beside the set."""
    for sig in shards(parts, k) if k else ():
        for i, one in enumerate(sig[:k]):
            generated = Generated(one[None], fs, plan.of(i), plan.seed)
            path = out.with_name(f"{out.stem}-synthetic-{i:05d}.png")
            path.write_bytes(print_png(generated.record(0)))
        break


if __name__ == "__main__":
    main()
