"""Long fuzz runs in slices: each has a seed of its own and a result file, so that a run can be
stopped at any time and goes on where it was, and what it found lies there as small files."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ATTEMPTS = 400  # to make one finding smaller
LIMIT_S = 60.0  # of one attempt

# A slice's seed -> what it did: at least `cases` and `wrong`, a list of findings.
Slice = Callable[[int], dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser, n: int) -> None:
    parser.add_argument("--n", type=int, default=n, help="cases a slice")
    parser.add_argument("--seed", type=int, default=0, help="of the first slice")
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--results", type=Path, help="a folder; slices that are there are not run")


def go_through(args: argparse.Namespace, name: str, run: Slice) -> Iterator[dict[str, Any]]:
    """Each slice's result, run now or found; its seed is printed before it starts."""
    for seed in range(args.seed, args.seed + args.slices):
        file = args.results / f"{name}-{seed}-{args.n}.json" if args.results else None
        if file and file.exists():
            yield json.loads(file.read_text())
            continue
        print(f"{name}: slice of {args.n} cases, --seed {seed}", flush=True)
        begun = time.monotonic()
        result = {"seed": seed, **run(seed), "seconds": round(time.monotonic() - begun, 1)}
        if file:
            args.results.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(result, indent=1))
            part.rename(file)  # whole, or not there
        yield result


def smaller(content: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A part of `content` that still fails: pieces are left out, ever smaller ones."""
    left = ATTEMPTS
    width = max(1, len(content) // 2)
    while width and left:
        at = 0
        while at < len(content) and left:
            left -= 1
            shorter = content[:at] + content[at + width :]
            if fails(shorter):
                content = shorter
            else:
                at += width
        width //= 2
    return content


def apart(work: Callable[[], str], limit_s: float = LIMIT_S) -> str:
    """What `work` says of itself in a process that may die or hang of it."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: theirs.send(work()))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(limit_s) else "hangs"
    except EOFError:
        process.join()
        return f"its process ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
