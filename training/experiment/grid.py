"""Makes the cells of a grid: processes of one thread on this machine, or tasks on a Ray cluster.

A cell is begun as soon as what it needs is made. One that is made is never made again; one that was
interrupted goes on from its own checkpoint, where its kind keeps one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from training import cluster
from training.experiment.cell import DONE, LOG, UNSENT, Cell, begin, with_needs

Files = Mapping[str, bytes]
PATIENCE_S = 0.2


class Maker(Protocol):
    """Begins cells; how many fit at a time, and which have ended, with what went wrong or None."""

    def room(self) -> int: ...
    def begin(self, one: Cell) -> None: ...
    def ended(self) -> Iterator[tuple[Cell, str | None]]: ...


def make(cells: list[Cell], folder: Path, maker: Maker) -> None:
    """Errors: SystemExit that names each cell that failed, and where it says why. The others are
    made nevertheless, but for those that need one that failed."""
    todo = [one for one in with_needs(cells) if not one.is_done(folder)]
    begun: set[Cell] = set()
    failed: dict[Cell, str] = {}
    with tqdm(total=len(todo), unit=" cells", mininterval=2, disable=not todo) as bar:
        while todo or begun:
            todo = [one for one in todo if not _give_up(one, failed)]
            for one in [one for one in todo if all(n.is_done(folder) for n in one.needs)]:
                if len(begun) >= maker.room():
                    break
                maker.begin(one)
                begun.add(one)
                todo.remove(one)
            for one, wrong in maker.ended():
                begun.discard(one)
                bar.update()
                bar.set_postfix_str(one.name)
                if wrong is not None:
                    failed[one] = wrong
            time.sleep(PATIENCE_S)
    if failed:
        raise SystemExit("\n".join(f"{one.name}: {wrong}" for one, wrong in failed.items()))


def _give_up(one: Cell, failed: dict[Cell, str]) -> bool:
    if lost := [need for need in one.needs if need in failed]:
        failed[one] = f"needs {lost[0].name}"
    return one in failed


class Here:
    """Processes of this machine, `workers` at a time."""

    def __init__(self, folder: Path, data: Path, workers: int) -> None:
        self.folder, self.data, self.workers = folder, data, workers
        self.running: dict[Cell, subprocess.Popen[bytes]] = {}

    def room(self) -> int:
        return self.workers

    def begin(self, one: Cell) -> None:
        inside = begin(one, self.folder)
        with (inside / LOG).open("ab") as log:
            self.running[one] = subprocess.Popen(  # nosec B603  # a command of ours, without a shell
                command(one, self.folder, self.data),
                stdout=log, stderr=log, env=one_thread(), stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def ended(self) -> Iterator[tuple[Cell, str | None]]:
        for one, process in list(self.running.items()):
            if process.poll() is not None:
                del self.running[one]
                made = process.returncode == 0 and one.is_done(self.folder)
                yield one, None if made else last_words(self.folder / one.name / LOG)

    def close(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait()


class Inside:
    """This process, a cell at a time: nothing to start, and errors with their traces."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.made: list[Cell] = []

    def room(self) -> int:
        return 1

    def begin(self, one: Cell) -> None:
        from training.experiment.kinds import make_cell  # torch is for who makes them

        make_cell(begin(one, self.folder), self.data)
        self.made.append(one)

    def ended(self) -> Iterator[tuple[Cell, str | None]]:
        while self.made:
            yield self.made.pop(), None


class OnRay:
    """Tasks of one core on a cluster's machines, which need no file system in common."""

    def __init__(self, folder: Path, data: Path, cores: Callable[[], int]) -> None:
        import ray

        self.ray, self.folder, self.cores = ray, folder, cores
        self.data = ray.put(_read(data))
        self.run = ray.remote(make_there).options(num_cpus=1, max_retries=cluster.RETRIES)
        self.running: dict[Any, Cell] = {}

    def room(self) -> int:
        return self.cores()

    def begin(self, one: Cell) -> None:
        begin(one, self.folder)
        needed = {n.name: _read(self.folder / n.name) for n in one.needs}
        begun = _read(self.folder / one.name)
        self.running[self.run.remote(one, self.data, needed, begun)] = one

    def ended(self) -> Iterator[tuple[Cell, str | None]]:
        ready, _ = self.ray.wait(list(self.running), timeout=0) if self.running else ([], [])
        for reference in ready:
            one = self.running.pop(reference)
            files, wrong = self.ray.get(reference)
            _write(files, self.folder / one.name)
            yield one, wrong

    def close(self) -> None:
        for reference in self.running:
            self.ray.cancel(reference, force=True)


@contextmanager
def maker(folder: Path, data: Path, workers: int, address: str | None) -> Iterator[Maker]:
    """What makes the cells: processes of this machine, this one itself where there are to be no
    workers, or the Ray cluster at `address`."""
    if address is None and not workers:
        yield Inside(folder, data)
        return
    if address is None:
        made: Here | OnRay = Here(folder, data, workers)
        try:
            yield made
        finally:
            made.close()
        return
    with cluster.connected(address, "cpu") as cores:
        made = OnRay(folder, data, cores)
        try:
            yield made
        finally:
            made.close()


def make_there(
    one: Cell, data: Files, needed: Mapping[str, Files], begun: Files
) -> tuple[Files, str | None]:
    """What a machine of the cluster does: the cell's files, and what went wrong."""
    with tempfile.TemporaryDirectory(prefix="experiment-") as place:
        folder, there = Path(place) / "cells", Path(place) / "data"
        _write(data, there)
        _write(begun, folder / one.name)
        for name, files in needed.items():
            _write(files, folder / name)
        inside = begin(one, folder)
        with (inside / LOG).open("ab") as log:
            subprocess.run(  # nosec B603  # a command of ours, without a shell
                command(one, folder, there), stdout=log, stderr=log, env=one_thread(), check=False
            )
        wrong = None if one.is_done(folder) else last_words(inside / LOG)
        return _read(inside), wrong


def command(one: Cell, folder: Path, data: Path) -> list[str]:
    where = [str(folder / one.name), "--data", str(data)]
    return [sys.executable, "-m", "training.experiment.kinds", *where]


def one_thread() -> dict[str, str]:
    """Processes of one thread each do more together than processes that share their threads."""
    rooms = str(Path(__file__).resolve().parent.parent.parent)
    paths = os.pathsep.join(filter(None, [rooms, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1] if lines else 'no word'} ({log})"


def _read(folder: Path) -> dict[str, bytes]:
    """Every file in the folder but those that stay where they were made."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {*UNSENT} & {*path.relative_to(folder).parts}
    }


def _write(files: Files, folder: Path) -> None:
    """`DONE` last: a cell whose files are not all there is not done."""
    for name in sorted(files, key=lambda name: name == DONE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])
