"""python -m tests.ecg.formats.fuzz: damaged files through every reader.

Each case changes a good file somehow, and reads, cuts and judges it as the service would, in a
process that is watched: what a reader raises must be its own, no case may take too long or too much
memory, and what passes the gate as acceptable must still be the recording that it was made from.

A long run goes by slices: --slices 45 --n 20000 --results runs/fuzz. Each leaves its counts there,
and a small file of each crash, hang or leak.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import multiprocessing
import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ecg.errors import EcgError
from ecg.formats import File, read
from ecg.prepare import Preparation, cut
from ecg.record import Record
from tests import campaign
from tests.ecg.formats.samples import HINTS, Sample, samples
from tests.service.bodies import as_zip

SECONDS, MEGABYTES = 2.0, 512.0
HANGS_S = 60
ADDRESS_SPACE = 4 * 2**30  # past which an allocation fails, whatever the machine has
NONSENSE = "nonsense that passes as acceptable"
SLOW, OFTEN = ("hdf5",), 5  # the others come so many times as often
ALIKE = 0.5  # correlation with the recording that a file was made from
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (b"0", b"-1", b"1e308", b"NaN", b"inf", b"99999999999", b"", b"\xff", b"<", b'"', b"mV")


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `kind` is an error's name, or a quality status."""

    kind: str
    seconds: float
    megabytes: float
    wrong: str = ""


def mutated(content: bytes, rng: random.Random) -> bytes:
    """`content` changed in one to four places, mostly near its start, where formats describe
    themselves."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        rng.choice(MUTATIONS)(out, rng)
    return bytes(out)


def _place(out: bytearray, rng: random.Random) -> int:
    end = min(len(out), 2048) if rng.random() < 0.6 else len(out)
    return rng.randrange(end) if end else 0


def _flip(out: bytearray, rng: random.Random) -> None:
    if out:
        out[_place(out, rng)] ^= 1 << rng.randrange(8)


def _scatter(out: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(2, 200)):
        if out:
            out[_place(out, rng)] = rng.randrange(256)


def _number(out: bytearray, rng: random.Random) -> None:
    """Some binary number, in either order."""
    width = rng.choice((1, 2, 4, 8))
    order = rng.choice(("little", "big"))
    at = _place(out, rng)
    out[at : at + width] = (rng.choice(NUMBERS) % 256**width).to_bytes(width, order)


def _word(out: bytearray, rng: random.Random) -> None:
    """Some text in the place of a run of digits or letters."""
    at = _place(out, rng)
    end = at
    while end < len(out) and end - at < 12 and bytes(out[end : end + 1]).isalnum():
        end += 1
    out[at:end] = rng.choice(WORDS)


def _cut(out: bytearray, rng: random.Random) -> None:
    del out[_place(out, rng) :]


def _remove(out: bytearray, rng: random.Random) -> None:
    at = _place(out, rng)
    del out[at : at + rng.randint(1, 300)]


def _repeat(out: bytearray, rng: random.Random) -> None:
    at = _place(out, rng)
    piece = bytes(out[at : at + rng.randint(1, 300)])
    out[at:at] = piece * rng.choice((1, 2, 50))


def _move(out: bytearray, rng: random.Random) -> None:
    at = _place(out, rng)
    piece = bytes(out[at : at + rng.randint(1, 300)])
    to = _place(out, rng)
    out[to : to + len(piece)] = piece


MUTATIONS: Sequence[Callable[[bytearray, random.Random], None]] = (
    _flip,
    _scatter,
    _number,
    _word,
    _cut,
    _remove,
    _repeat,
    _move,
)


def judge(files: Sequence[File], good: Record) -> Outcome:
    """Read, cut and judge; `wrong` says what should not have happened."""
    _forget_peak()
    before, started = _memory("VmRSS"), _cpu_s()
    wrong = kind = ""
    try:
        records = read(files, HINTS)
        statuses = [cut(record, Preparation()).quality.status for record in records]
        kind = statuses[0]
        for record, status in zip(records, statuses, strict=True):
            if status == "acceptable" and not still(record, good):
                wrong = NONSENSE
    except EcgError as error:
        kind = type(error).__name__
    except Exception as error:
        kind = wrong = f"{type(error).__name__} leaks"
    seconds, megabytes = _cpu_s() - started, _memory("VmHWM") - before
    if seconds > SECONDS:
        wrong = f"takes {seconds:.1f} s"
    if megabytes > MEGABYTES:
        wrong = f"takes {megabytes:.0f} MB"
    return Outcome(kind, seconds, megabytes, wrong)


def still(record: Record, good: Record) -> bool:
    """Whether most leads, in whatever order, are stretches of the good recording's."""
    found = [_alike(row, good) for row in record.sig]
    return float(np.median(found)) >= ALIKE


def _alike(row: np.ndarray, good: Record) -> float:
    """The highest correlation with any lead at any shift, sample by sample; spikes of a few samples
    cut off, which a recording survives."""
    n = good.n_samples
    piece = np.nan_to_num(row[:n]).astype(np.float64)
    low, middle, high = np.quantile(piece, (0.01, 0.5, 0.99))
    piece = np.clip(piece, middle - 2 * (middle - low), middle + 2 * (high - middle))
    piece -= piece.mean()
    size = 2 * max(n, len(piece))
    ours = np.fft.rfft(piece, size)
    best = 0.0
    for lead in np.nan_to_num(good.sig).astype(np.float64):
        lead = lead - lead.mean()
        both = np.fft.irfft(np.conj(ours) * np.fft.rfft(lead, size), size)
        norm = np.linalg.norm(piece) * np.linalg.norm(lead)
        best = max(best, float(np.abs(both).max() / norm) if norm else 0.0)
    return best


def _cpu_s() -> float:
    """Of this process and those that it has started: the machine may be busy with others."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> float:
    """MB, of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1000
    return 0.0


def run(
    seeds: dict[str, Sample], n: int, seed: int, processes: int
) -> tuple[collections.Counter, list[dict]]:
    """`n` cases over all kinds in turns: how often each (kind, outcome) came, and what was wrong.

    A case that kills its process is wrong too, and the rest goes on without it.
    """
    counts: collections.Counter = collections.Counter()
    wrong: list[dict] = []
    running = [_Part(seeds, n, seed, i, processes) for i in range(processes)]
    for part in running:
        part.start()
    for part in running:
        for kind, outcome, details in part.outcomes():
            counts[kind, outcome] += 1
            if details:
                wrong.append(details)
    return counts, wrong


class _Part:
    """Every `step`-th case, from the `first` on, in a process that may die of one."""

    def __init__(self, seeds: dict[str, Sample], n: int, seed: int, first: int, step: int) -> None:
        self.seeds, self.n, self.seed, self.at, self.step = seeds, n, seed, first, step

    def start(self) -> None:
        self.ours, theirs = multiprocessing.Pipe(duplex=False)
        arguments = (self.seeds, self.n, self.seed, self.at, self.step, theirs)
        self.process = multiprocessing.Process(target=_work, args=arguments)
        self.process.start()
        theirs.close()

    def outcomes(self) -> Iterator[tuple[str, str, dict | None]]:
        while self.at < self.n:
            try:
                yield self.ours.recv()
            except EOFError:
                self.process.join()
                kind = _kind(self.seeds, self.at)
                died = f"its process ended with {self.process.exitcode}"
                yield kind, "died", {"case": self.at, "kind": kind, "wrong": died}
                self.at += self.step
                self.start()
                continue
            self.at += self.step
        self.process.join()


def _kind(seeds: dict[str, Sample], case: int) -> str:
    """In turns; seldom one that takes a process of its own."""
    turns = [kind for kind in sorted(seeds) for _ in range(1 if kind in SLOW else OFTEN)]
    return turns[case % len(turns)]


def case_of(seeds: dict[str, Sample], case: int, seed: int) -> tuple[str, Sequence[File], Record]:
    """One case, again whenever it is asked for: its kind, files and the good recording."""
    kind, which, content = _damage(seeds, case, seed)
    sample = seeds[kind]
    return kind, _with(sample, which, content), sample.record


def _damage(seeds: dict[str, Sample], case: int, seed: int) -> tuple[str, int, bytes]:
    """A case's kind, which of its files is damaged, and how."""
    rng = random.Random(f"{seed}/{case}")
    kind = _kind(seeds, case)
    files = seeds[kind].files
    which = rng.randrange(len(files))
    return kind, which, mutated(files[which].content, rng)


def _with(sample: Sample, which: int, content: bytes) -> Sequence[File]:
    files = [replace(f, content=content) if i == which else f for i, f in enumerate(sample.files)]
    return sample.packed(files)


def save(seeds: dict[str, Sample], case: int, seed: int, folder: Path) -> str:
    """The case as small as it still goes wrong, in `folder`: the file, or a zip of several."""
    kind, which, content = _damage(seeds, case, seed)
    sample = seeds[kind]

    def wrong(content: bytes) -> str:
        def judged() -> str:
            _bound_memory()
            return judge(_with(sample, which, content), sample.record).wrong

        found = campaign.apart(judged)
        return "" if found == NONSENSE else found

    if not wrong(content):
        return "not again"
    files = _with(sample, which, campaign.smaller(content, lambda one: bool(wrong(one))))
    target = folder / f"readers-{seed}-{case}-{kind.replace(' ', '-')}.bin"
    folder.mkdir(parents=True, exist_ok=True)
    target.write_bytes(files[0].content if len(files) == 1 else as_zip(list(files)))
    return target.name


def _work(
    seeds: dict[str, Sample], n: int, seed: int, first: int, step: int, pipe: Connection
) -> None:
    _bound_memory()
    for sample in seeds.values():  # what is computed once is not a case's
        judge(sample.packed(sample.files), sample.record)
    for case in range(first, n, step):
        faulthandler.dump_traceback_later(HANGS_S, exit=True)
        kind, files, good = case_of(seeds, case, seed)
        outcome = judge(files, good)
        faulthandler.cancel_dump_traceback_later()
        details = {"case": case, "kind": kind, "wrong": outcome.wrong} if outcome.wrong else None
        pipe.send((kind, outcome.kind, details))


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    campaign.add_arguments(parser, n=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="one kind of file")
    args = parser.parse_args()
    seeds = samples()
    if args.only:
        seeds = {args.only: seeds[args.only]}

    def one_slice(seed: int) -> dict[str, Any]:
        counts, wrong = run(seeds, args.n, seed, args.processes)
        for one in wrong:
            if one["wrong"] != NONSENSE and args.results:
                one["file"] = save(seeds, one["case"], seed, args.results)
        by_kind = {
            kind: {k: v for (which, k), v in sorted(counts.items()) if which == kind}
            for kind in sorted(seeds)
        }
        return {"cases": sum(counts.values()), "outcomes": by_kind, "wrong": wrong}

    cases = n_wrong = 0
    for result in campaign.go_through(args, "readers", one_slice):
        for kind, found in result["outcomes"].items():
            print(f"{kind:13} {sum(found.values()):7} {json.dumps(found)}")
        for one in result["wrong"]:
            print(json.dumps({"seed": result["seed"], **one}))
        cases, n_wrong = cases + result["cases"], n_wrong + len(result["wrong"])
    print(f"{cases} cases, {n_wrong} wrong")
    sys.exit(bool(n_wrong))


if __name__ == "__main__":
    main()
