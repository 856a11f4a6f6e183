"""Debian's PostgreSQL, started for a test in a folder of its own, on a socket there alone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path())
MISSING = not (_BIN / "initdb").exists() or (os.geteuid() == 0 and not shutil.which("setpriv"))
needs_postgres = pytest.mark.skipif(MISSING, reason="Debian's postgresql is not installed")
DATABASES = ["sqlite", pytest.param("postgresql", marks=needs_postgres)]  # to run a test on each


class Postgres:
    """A server that can be stopped and started; `url` is its owner's, `url_of(role)` another's."""

    def __init__(self) -> None:
        # not pytest's folder, which the server's user may not enter
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self.folder.chmod(0o711)
        if os.geteuid() == 0:
            os.chown(self.folder, *pwd.getpwnam("postgres")[2:4])
        self._data = self.folder / "data"
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "owner", "-E", "UTF8")
        self.start()
        self._run("createdb", "-h", str(self.folder), "-U", "owner", "ecg")
        self.url = self.url_of("owner")

    def url_of(self, role: str) -> str:
        return f"postgresql://{role}@/ecg?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses= -k {self.folder}"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-o", options, "-l", log, "start")

    def stop(self) -> None:
        """At once, as a crash would."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def freeze(self, frozen: bool) -> None:
        """Let the server neither answer nor hang up, and go on."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, children)):
            os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def remove(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        command = [*(drop if os.geteuid() == 0 else ()), str(_BIN / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
