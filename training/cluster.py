"""ECGs of a set, made on the machines of a Ray cluster: for `python -m training.generate --ray`.

A task makes some rows, on one core. What they are follows from the weights, the seed, the labels
and the rows' numbers alone, so Ray may run a task twice, or anew where a machine died with it.
Ray is imported where a cluster is asked for, nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import logging
import os
import platform
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg.card import Diffusion, GeneratorCard
from ecg.errors import StoreError
from ecg.generation import generate_many
from ecg.labels import Labels
from ecg.store import CARD, DECODER, DENOISER, Generator, open_generator

ROOT = Path(__file__).resolve().parent.parent
ROWS = 256  # a task, or one batch where that is larger: 8 MB; 20 s of a core for the shipped model
AHEAD = 4  # tasks a core that are begun or wait to be fetched: what bounds the memory
RETRIES = 10  # of a task whose machine or process died: more of them is no accident
NEEDED = ("numpy", "onnxruntime")  # whose versions may show in an ECG's last digits
PATIENCE_S = 5.0  # for a connection

Sent = Mapping[str, np.ndarray]  # a stored generator's files by name, as bytes


@dataclass(frozen=True)
class Task:
    """What the tasks of a set have in common. `sha256` is of each network's file."""

    sha256: Mapping[str, str]
    seed: int
    diffusion: Diffusion
    batch_size: int
    device: str
    versions: Mapping[str, str]


class Refused(Exception):
    """A machine that would not make what the others make; says what to do about it."""


def read(folder: Path) -> Sent:
    """The stored generator's files, to be sent: a cluster's machines need no models store."""
    return {
        name: np.frombuffer((folder / name).read_bytes(), np.uint8)
        for name in (CARD, DENOISER, DECODER)
    }


@contextmanager
def connected(address: str, device: str) -> Iterator[Callable[[], int]]:
    """The cluster at `address`; yields what tells how many tasks its machines now take at a time.

    Its machines get the rooms `ecg` and `training` from here, so that they run this code.

    Errors: SystemExit that says what is wrong and what would do.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local":  # a token of its own: Ray would leave one in the home folder
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ModuleNotFoundError:
        raise SystemExit(
            "--ray needs the package ray, which is not installed here: make train-env installs it"
        ) from None
    reach(address)
    unit = "GPU" if device == "cuda" else "CPU"
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                "py_modules": [str(ROOT / "ecg"), str(ROOT / "training")],
                "excludes": ["reports/", "presets/", "*.md", "__pycache__/"],
            },
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise SystemExit(f"--ray {address}: {in_one_line(error)}") from None
    try:
        yield lambda: int(ray.cluster_resources().get(unit, 0))
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        raise SystemExit(f"--ray {address}: {in_one_line(cause)}; what is done is kept") from None
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Ray itself tries for minutes where nothing answers.

    Errors: SystemExit where nothing does, or where this is no address.
    """
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise SystemExit(
            f"--ray {address}: expected HOST:PORT of the cluster's head, auto or local; run this "
            "on a machine of the cluster"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise SystemExit(
            f"--ray {address}: nothing answers there ({error}): start a head with "
            f"'ray start --head --port={port}' on {host}, or open the way to it"
        ) from None


def in_one_line(error: BaseException) -> str:
    """What Ray says, with what to do."""
    said = " ".join(str(error).split())
    if "Version mismatch" in said:
        return f"{said}: install the same Ray and Python on all machines (requirements/train.txt)"
    if "Failed to connect to Ray cluster" in said:
        return (
            f"{said}: if that is a head of Ray, it may ask for a token: RAY_AUTH_MODE=token and "
            "its RAY_AUTH_TOKEN are then needed here too"
        )
    if "Could not find any running Ray instance" in said:
        return "this machine is part of no cluster: 'ray start --head', or name HOST:PORT"
    return said if isinstance(error, Refused | StoreError) else f"{type(error).__name__}: {said}"


def generate_on(
    cores: Callable[[], int],
    sent: Sent,
    task: Task,
    labels: Callable[[int], Labels],
    pieces: Iterable[range],
    waiting: Callable[[str], object],
) -> Iterator[tuple[np.ndarray, str]]:
    """float32 mV [len(rows), 8, n_samples] of each piece, in order, and what machine made it.

    Pieces are done in any order; AHEAD of them a core are begun and not yet fetched, and those
    that are done lie in the memory of the machines that made them. `waiting` is told where no
    machine is left.

    Errors: Ray's, of which one is Refused and one StoreError.
    """
    import ray

    if not cores():
        wanted = "GPU" if task.device == "cuda" else "core"
        raise SystemExit(
            f"--ray: no machine of the cluster offers a {wanted}: 'ray start' takes --num-cpus and "
            "--num-gpus"
        )
    make = ray.remote(make_rows).options(
        num_cpus=1, num_gpus=1 if task.device == "cuda" else 0, max_retries=RETRIES
    )
    files, common = ray.put(sent), ray.put(task)
    todo = iter(pieces)
    begun: deque[Any] = deque()
    while True:
        for rows in itertools.islice(todo, max(1, AHEAD * cores()) - len(begun)):
            begun.append(make.remote(files, common, [labels(row) for row in rows], rows))
        if not begun:
            return
        while not ray.wait([begun[0]], timeout=10)[0]:
            if not cores():
                waiting("no machine of the cluster is left: waiting for one, Ctrl-C to stop")
        yield ray.get(begun.popleft())


def make_rows(
    sent: Sent, task: Task, labels: Sequence[Labels], rows: range
) -> tuple[np.ndarray, str]:
    """What a machine of the cluster does."""
    generator = opened(sent, task)
    made = generate_many(
        generator, labels, rows, task.seed, task.diffusion, workers=1, batch_size=task.batch_size
    )
    return np.concatenate(list(made)), machine(generator.device)


_open: dict[tuple[str, ...], Generator] = {}  # of this process


def opened(sent: Sent, task: Task) -> Generator:
    """The generator, opened once a process. Errors: Refused, StoreError."""
    key = (*task.sha256.values(), task.device)
    if key not in _open:
        if differing := [
            f"{name} {here}, not {version}"
            for name, version in task.versions.items()
            if (here := importlib.metadata.version(name)) != version
        ]:
            raise Refused(f"{platform.node()} has {', '.join(differing)}: install the same there")
        card = GeneratorCard.model_validate_json(sent[CARD].tobytes())
        files = {name: sent[name].tobytes() for name in task.sha256}
        for name, sha256 in task.sha256.items():
            if hashlib.sha256(files[name]).hexdigest() != sha256:
                raise StoreError(f"{platform.node()} was sent another {name}: the sha256 differs")
        _open[key] = open_generator(card, files[DENOISER], files[DECODER], task.device)
    return _open[key]


def versions() -> dict[str, str]:
    """Of the packages that all machines must have alike."""
    return {name: importlib.metadata.version(name) for name in NEEDED}


def pieces(shards: Iterable[range], batch_size: int) -> Iterator[range]:
    """The rows of each task: whole batches, and none of two shards."""
    step = batch_size * max(1, ROWS // batch_size)
    for rows in shards:
        for start in range(rows.start, rows.stop, step):
            yield range(start, min(start + step, rows.stop))


def machine(device: str) -> str:
    """What computes here: another kind may round differently in the last digit."""
    wanted = ("model name", "cpu family", "model")
    about = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            about[name.strip()] = value.strip()
    except OSError:
        pass  # not Linux
    known = [about[name] for name in wanted if name in about]
    cpu = " ".join(known or [platform.machine(), platform.processor()]).strip()
    return f"{cpu} with CUDA" if device == "cuda" else cpu
