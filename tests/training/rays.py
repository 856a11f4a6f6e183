"""A Ray cluster of several nodes on this machine, each of processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
OWN_PORTS = ("--min-worker-port", "0", "--max-worker-port", "0")
MEMORY = ("--object-store-memory", str(100 * 2**20))


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


class Nodes:
    """A head that computes nothing, and nodes of some cores each, which can be killed."""

    def __init__(self, *cores: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets: a short path
        self.running: list[subprocess.Popen] = []
        self.address = f"127.0.0.1:{free_port()}"
        self.cores = cores

    def __enter__(self) -> Nodes:
        try:
            port = self.address.rpartition(":")[2]
            self.start(
                *("--head", "--port", port, "--num-cpus", "0", "--include-dashboard", "false"),
                *("--temp-dir", str(self.folder), "--ray-client-server-port", free_port()),
            )
            for n in self.cores:
                self.add(n)
        except BaseException:
            self.__exit__()
            raise
        return self

    def add(self, cores: int) -> subprocess.Popen:
        return self.start("--address", self.address, "--num-cpus", str(cores))

    def start(self, *arguments: str) -> subprocess.Popen:
        """One after another: raylets that start together may take the same socket. Ray gives a
        node 30 s to start, which on a busy machine may be too few: then another one is started."""
        for _ in range(4):
            node, log = self.one_more(arguments)
            deadline = time.monotonic() + 300
            while node.poll() is None and time.monotonic() < deadline:
                if b"Ray runtime started" in log.read_bytes():
                    return node
                time.sleep(0.1)
            kill(node)
            self.running.remove(node)
        raise RuntimeError(f"no node of Ray:\n{log.read_text()[-2000:]}")

    def one_more(self, arguments: tuple[str, ...]) -> tuple[subprocess.Popen, Path]:
        log = self.folder / f"node-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            node = subprocess.Popen(
                [*START, *arguments, *OWN_PORTS, *MEMORY, "--node-ip-address", "127.0.0.1"],
                env={**os.environ, **QUIET},
                stdout=out,
                stderr=out,
            )
        self.running.append(node)
        return node, log

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.running):
            kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)


def processes(node: subprocess.Popen) -> list[psutil.Process]:
    """The node's raylet, its workers, and what else it started."""
    if node.poll() is not None:
        return []
    return psutil.Process(node.pid).children(recursive=True)


def is_at_work(node: subprocess.Popen) -> bool:
    """Whether one of its workers is making rows just now: Ray names the process for its task."""
    for process in processes(node):
        try:
            if process.cmdline()[:1] == ["ray::make_rows"]:
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def kill(node: subprocess.Popen) -> None:
    """With SIGKILL, all of it: no process of it can say goodbye."""
    everything = processes(node)
    for process in everything:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    node.kill()
    node.wait(30)
    psutil.wait_procs(everything, 30)
