"""A service started for a measurement, and what its processes cost while it is measured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
START_S = 120.0


@dataclass(frozen=True)
class Cost:
    """Of all of a service's processes: CPU seconds since they began, MiB of memory now, in which
    what several share counts once."""

    cpu_s: float
    mib: float


@dataclass(frozen=True)
class Served:
    url: str
    process: psutil.Process

    def cost(self) -> Cost:
        cpu_s = n_bytes = 0.0
        for one in [self.process, *self.process.children(recursive=True)]:
            try:
                times = one.cpu_times()
                cpu_s += times.user + times.system
                n_bytes += one.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue  # ended since it was listed
        return Cost(cpu_s, n_bytes / 2**20)

    def workers(self) -> list[psutil.Process]:
        """The processes below the first, oldest first."""
        return sorted(self.process.children(recursive=True), key=lambda p: p.create_time())


@contextmanager
def serving(
    command: Sequence[str],
    ready: str = "/readyz",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """`command`, with {port} in it replaced by a free one, until its `ready` path answers 200; it
    and all its children are gone afterwards.

    Errors: SystemExit with the end of what it wrote, where it does not come up.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        surroundings = {**os.environ, "BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True"}
        with log.open("wb") as out:
            process = subprocess.Popen(  # nosec B603  # a command of ours, without a shell
                [part.format(port=port) for part in command],
                cwd=ROOT,
                env={**surroundings, **(environment or {})},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            if not _comes_up(process, url + ready):
                tail = log.read_text(errors="replace")[-2000:]
                raise SystemExit(f"{' '.join(command)} did not come up:\n{tail}")
            yield Served(url, psutil.Process(process.pid))
        finally:
            _end(process)


def _comes_up(process: subprocess.Popen, url: str) -> bool:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    return False


def _end(process: subprocess.Popen) -> None:
    for number, patience_s in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
