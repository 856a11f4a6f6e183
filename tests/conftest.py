"""Shared by all rooms' tests: a few real records, and a real running service."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import settings

from ecg.formats import File, Hints, read
from ecg.record import Record

# A busy machine is no reason to fail, and what is found must be found again; `long` looks further,
# somewhere else each time.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.register_profile("long", deadline=None, database=None, max_examples=1000)
settings.load_profile(os.environ.get("ECG_PROPERTIES", "tests"))

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
PTB_XL = ("00009_lr", "00038_lr", "00274_lr", "01275_lr")  # NORM, NORM, LAO/LAE, AFIB


def wfdb_files(name: str, endings: tuple[str, ...] = (".hea", ".dat")) -> list[File]:
    return [File((DATA / f"{name}{e}").read_bytes(), f"{name}{e}") for e in endings]


@pytest.fixture(scope="session")
def records() -> dict[str, Record]:
    """Real PTB-XL records by name (tests/data/README.md)."""
    return {name: read(wfdb_files(name), Hints())[0] for name in PTB_XL}


@pytest.fixture(scope="session")
def record(records: dict[str, Record]) -> Record:
    """One of them: twelve leads, 10 s, 100 Hz."""
    return next(iter(records.values()))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real service with the shipped models, as `make serve` starts it."""
    with running_service(tmp_path_factory.mktemp("service")) as service:
        yield service.url


@pytest.fixture(scope="session")
def url_without_generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service whose store has the shipped classifier alone."""
    folder = tmp_path_factory.mktemp("without-generator")
    shutil.copytree(ROOT / "models_store" / "prednet", folder / "store" / "prednet")
    with running_service(folder, ECG_MODELS_STORE=str(folder / "store")) as service:
        yield service.url


class running_service:
    """BentoML serving this checkout on a free port, in a process group of its own."""

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        tls: dict[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        target: str = "service.bento:EcgDirenet",
        within: Sequence[str] = (),
        **settings: str,
    ) -> None:
        """`tls`: BentoML's `--ssl-…` options; `verify`: how to ask whether it is ready then;
        `within`: a command that runs the service's, given behind its own arguments."""
        self.target, self.within = target, within
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.host, self.verify = host, verify
        self.options = [word for name, value in (tls or {}).items() for word in (name, value)]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.log = folder / "service.log"
        self.environment = {
            **os.environ,
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(folder / "bentoml"),
            "TMPDIR": str(folder),
            **settings,
        }

    def __enter__(self) -> running_service:
        command = [
            *self.within,
            *(sys.executable, "-m", "bentoml", "serve", self.target),
            *("--host", self.host, "--port", str(self.port), *self.options),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 180  # a busy machine
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                ready = httpx.get(f"{self.url}/readyz", timeout=2, verify=self.verify)
                if ready.status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.2)
        self.__exit__()
        raise RuntimeError(f"the service did not start:\n{self.log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def worker_pids(self) -> list[int]:
        """The processes that serve, children of the one that watches them."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]
