"""Everything that a running service says or leaves behind, and whose words are in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.conftest import ROOT, running_service
from tests.service.apart import PLACES
from tests.service.planted import found

PASSED_OVER = {".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", "node_modules"}
MOST_BYTES = 256 * 2**20  # of a file that is looked into


class Collector:
    """An OTLP collector: keeps what is sent to it."""

    def __init__(self) -> None:
        bodies: list[bytes] = []

        class Keep(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                packed = self.headers.get("content-encoding") == "gzip"
                bodies.append(zlib.decompress(body, 31) if packed else body)
                bodies.append(str(self.headers).encode() + self.path.encode())
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.bodies = bodies
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Keep)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Collector:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def apart(folder: Path) -> list[str]:
    """How to run a command so that it can write to the folder alone, and to places of its own;
    nothing where this machine does not allow that: then everything that changed is looked into."""
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    prefix = ["unshare", "--mount", "--propagation", "private", *mapped, sys.executable]
    prefix += [str(Path(__file__).with_name("apart.py")), str(folder)]
    if shutil.which("unshare") is None:
        return []
    return prefix if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0 else []


class Watch:
    """A service and all that it can write to. `folder` is its own: the logs of all its processes,
    its temporary files, BentoML's and Prometheus's, and the database."""

    def __init__(self, service: running_service, folder: Path, collector: Collector) -> None:
        self.service, self.folder, self.collector = service, folder, collector
        self.since = time.time()
        self.answers: list[tuple[str, bytes]] = []

    def heard(self, what: str, answer: httpx.Response, forgiven: Sequence[bytes] = ()) -> None:
        """Keep an answer; `forgiven` is what it may repeat, since the client called it so."""
        head = f"{answer.status_code} {answer.reason_phrase}\n".encode()
        head += b"\n".join(b"%s: %s" % header for header in answer.headers.raw)
        content = answer.content
        for word in forgiven:
            content = content.replace(word, b"")
        self.answers.append((what, head + b"\n\n" + content))

    def leaks(self, words: Sequence[str]) -> list[str]:
        """Where any of the words are."""
        metrics = httpx.get(f"{self.service.url}/metrics", timeout=60).content
        places = [(f"answer to {what}", content) for what, content in self.answers]
        places += [("/metrics", metrics), *self._files(), *self._open_files()]
        places += [("a trace", body) for body in self.collector.bodies]
        return sorted({f"{p}: {', '.join(said)}" for p, c in places if (said := found(c, words))})

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Those in the service's folder, and those that changed since it began, elsewhere; by
        name, too."""
        for path in self.folder.rglob("*"):
            yield f"the name of {path}", path.name.encode()
            if path.is_file():
                yield str(path), path.read_bytes()
        places = (str(ROOT), str(Path.home()), *PLACES)
        if self.service.within:  # they are its own, and all else is read-only
            places = tuple(f"/proc/{self.service.process.pid}/root{place}" for place in PLACES)
        for place in dict.fromkeys(places):
            for path in _changed(place, str(self.folder), self.since):
                yield f"the name of {path}", path.encode()
                try:
                    yield path, Path(path).read_bytes()
                except OSError:
                    continue  # gone, or not ours

    def _open_files(self) -> Iterator[tuple[str, bytes]]:
        """What the processes hold open that has no name any more, or lies in memory alone."""
        for pid in self.pids():
            for link in Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    target = os.readlink(link)
                    if target.endswith("(deleted)") and link.stat().st_size <= MOST_BYTES:
                        yield f"open file {target}", link.read_bytes()
                except OSError:
                    continue

    def pids(self) -> list[int]:
        """The service's processes, and those that they started."""
        found, waiting = [], [self.service.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            try:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (task / "children").read_text().split())
            except OSError:
                continue
        return found


def _changed(root: str, own: str, since: float) -> Iterator[str]:
    """Regular files below the root that were made or changed since."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in PASSED_OVER and not entry.path.endswith(own):
                        waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    if stat.st_ctime >= since and stat.st_size <= MOST_BYTES:
                        yield entry.path
            except OSError:
                continue
