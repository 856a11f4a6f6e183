"""python -m loadtest.rolling: replace a service under load, again and again: who notices?

Two services behind HAProxy (deploy/haproxy/haproxy.cfg, as it is). In turns the one that is away
starts, and once HAProxy finds it ready the other gets SIGTERM, in the middle of requests: single
ECGs over kept connections and new ones, clients that rest between requests for about as long as
idle connections live, bodies that come in slowly, hours of Holter, 64 synthetic ECGs. No client
sends anything twice. A request fails that is not answered 200, or not whole; HAProxy's own retries
are counted beside. `--drain 0` shows what happens without the drain.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

from loadtest import bodies
from loadtest.bodies import Body
from loadtest.run import SERVICE, machine
from loadtest.server import ROOT

CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
START_S, STOP_S = 600.0, 600.0  # a machine may be busy with more than this
HOURS = 3.0  # of the Holter, in three leads: 13 MiB
SLOW_S = 3.0  # that a slow body takes to come in
BETWEEN_S = 2.0  # from the end of one update to the next
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Failure:
    at_s: float
    client: str
    what: str


@dataclass
class Seen:
    """By the clients: answers, and what was not one."""

    started: float = field(default_factory=time.monotonic)
    answered: Counter[str] = field(default_factory=Counter)
    slowest_s: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def note(self, client: str, seconds: float, what: str | None) -> None:
        if what is None:
            self.answered[client] += 1
            self.slowest_s[client] = max(seconds, self.slowest_s.get(client, 0.0))
        else:
            at_s = round(time.monotonic() - self.started, 2)
            self.failures.append(Failure(at_s, client, what))


@dataclass(frozen=True)
class Update:
    """in_flight: requests that the old one had when it was told to stop; sent_to_it_s: how long
    after that the last new one was; ended_s: how long until it was gone; code: its exit status."""

    ready_s: float
    in_flight: int
    sent_to_it_s: float
    ended_s: float
    code: int


class Service:
    """One of the two, at its own address."""

    def __init__(self, name: str, command: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.name, self.command, self.settings = name, command, settings
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, folder: Path) -> None:
        surroundings = {"BENTOML_HOME": str(folder / self.name), "BENTOML_DO_NOT_TRACK": "True"}
        with (folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(  # nosec B603  # a command of ours, without a shell
                [part.format(port=self.port) for part in self.command],
                cwd=ROOT,
                env={**os.environ, **surroundings, **self.settings},
                stdout=log,
                stderr=log,
            )

    def end(self) -> None:
        """Nothing of it is left: its workers are in groups of their own."""
        if hasattr(self, "process") and self.process.poll() is None:
            all_of_it = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
            for worker in all_of_it:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()


class Proxy:
    """HAProxy before both."""

    def __init__(self, folder: Path, first: Service, second: Service) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self._admin = folder / "haproxy.sock"
        self._environment = {
            **os.environ,
            "ECG_BIND": self.address,
            "ECG_FIRST": first.address,
            "ECG_SECOND": second.address,
            "ECG_ADMIN": str(self._admin),
        }
        self._log = folder / "haproxy.log"

    def __enter__(self) -> Proxy:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # nosec B603 B607  # no shell, nothing from outside
                ["haproxy", "-db", "-f", str(CONFIGURATION)],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 10
        while not self._admin.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"HAProxy did not start:\n{self._log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def of(self, name: str) -> dict[str, str]:
        """HAProxy's own numbers of a service."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._admin))
            admin.sendall(b"show stat\n")
            text = b"".join(iter(lambda: admin.recv(65536), b"")).decode()
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        return next(r for r in rows if r["pxname"] == "services" and r["svname"] == name)

    def is_up(self, name: str) -> bool:
        return self.of(name)["status"] == "UP"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.rolling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--drain", type=float, default=15.0, help="ECG_DRAIN_S of the services")
    parser.add_argument("--workers", type=int, default=2, help="of each service")
    parser.add_argument("--out", type=Path, default=ROOT / "loadtest" / "results")
    args = parser.parse_args()
    found = {"made": time.strftime("%Y-%m-%d"), "machine": machine()}
    found |= roll(args.updates, args.drain, args.workers)
    print(json.dumps(found, indent=1))
    (args.out / "rolling.json").write_text(json.dumps(found, indent=1) + "\n")


def roll(
    updates: int, drain_s: float, workers: int, command: tuple[str, ...] = SERVICE
) -> dict[str, object]:
    """What was seen while the service was replaced so many times."""
    settings = {
        "ECG_DRAIN_S": str(drain_s),
        "ECG_WORKERS": str(workers),
        # Two services, HAProxy and the clients share this machine: here being slow is no failure.
        "ECG_MAX_DELAY_S": "60",
        "ECG_TIMEOUT_S": "240",
        "ECG_ACCESS_LOG": "0",
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first, second = (Service(name, command, settings) for name in ("first", "second"))
        for service in (first, second):
            stack.callback(service.end)
        proxy = stack.enter_context(Proxy(folder, first, second))
        return asyncio.run(_roll(updates, proxy, first, second, folder))


async def _roll(
    updates: int, proxy: Proxy, old: Service, new: Service, folder: Path
) -> dict[str, object]:
    old.start(folder)
    await _until(lambda: not proxy.is_up(new.name) and proxy.is_up(old.name), START_S)
    await _until(lambda: _answers(proxy.url), START_S)
    seen, made = Seen(), list[Update]()
    async with clients(proxy.url, seen):
        for _ in range(updates):
            await asyncio.sleep(BETWEEN_S)
            made.append(await replace(proxy, old, new, folder))
            old, new = new, old
        await asyncio.sleep(BETWEEN_S)
    names = (old.name, new.name)
    return {
        "updates": len(made),
        "seconds": round(time.monotonic() - seen.started, 1),
        "answered": dict(sorted(seen.answered.items())),
        "requests": seen.answered.total() + len(seen.failures),
        "failed": len(seen.failures),
        "retried_by_haproxy": sum(
            int(proxy.of(n)["wretr"]) + int(proxy.of(n)["wredis"]) for n in names
        ),
        "slowest_s": {name: round(s, 2) for name, s in sorted(seen.slowest_s.items())},
        "failures": [asdict(failure) for failure in seen.failures[:50]],
        "each": [asdict(update) for update in made],
    }


async def replace(proxy: Proxy, old: Service, new: Service, folder: Path) -> Update:
    """The new one in, the old one out. Errors: SystemExit where it takes too long."""
    began = time.monotonic()
    new.start(folder)
    await _until(lambda: proxy.is_up(new.name), START_S)
    ready_s = time.monotonic() - began
    old.process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    in_flight, sent, last = int(proxy.of(old.name)["scur"]), "", told
    while old.process.poll() is None:
        if (now := proxy.of(old.name)["stot"]) != sent:
            sent, last = now, time.monotonic()
        if time.monotonic() - told > STOP_S:
            raise SystemExit(f"{old.name} did not stop within {STOP_S:.0f} s")
        await asyncio.sleep(0.05)
    return Update(
        ready_s=round(ready_s, 2),
        in_flight=in_flight,
        sent_to_it_s=round(last - told, 2),
        ended_s=round(time.monotonic() - told, 2),
        code=old.process.returncode,
    )


@asynccontextmanager
async def clients(url: str, seen: Seen) -> AsyncIterator[None]:
    """Everybody, until the block is left; then what they had sent is still waited for."""
    records = bodies.records()
    single, many = bodies.one_npz(records[0]), bodies.many_npz(records)
    jobs = [
        *(("kept connection", single, _pause(0.02)) for _ in range(6)),
        *(("new connection", single, _pause(0.1)) for _ in range(2)),
        *(("resting", single, _pause(s)) for s in (0.7, 3.0, 5.0, 7.5)),
        ("32 records", many, _pause(0.5)),
        ("Holter", holter(), _pause(0.2)),
        ("slow body", many, _pause(0.2)),
        ("synthesize 64", bodies.synthesize(64), _pause(0.2)),
        ("synthesize 1", bodies.synthesize(1), _pause(0.5)),
    ]
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name, body, pause in jobs:
            group.create_task(_ask_again(name, url, body, pause, seen, over))
        try:
            yield
        finally:
            over.set()


async def _ask_again(
    name: str, url: str, body: Body, pause: Callable[[], float], seen: Seen, over: asyncio.Event
) -> None:
    keep = None if name != "new connection" else 0
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=keep, keepalive_expiry=30)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits) as client:
        while not over.is_set():
            content = _slowly(body.content) if name == "slow body" else body.content
            began = time.monotonic()
            try:
                answer = await client.post(body.path, content=content, headers=body.headers)
                wrong = None if answer.status_code == 200 else f"{answer.status_code}"
            except httpx.HTTPError as error:
                wrong = type(error).__name__
            seen.note(name, time.monotonic() - began, wrong)
            await asyncio.sleep(pause())


def _pause(mean_s: float) -> Callable[[], float]:
    return lambda: random.uniform(0.5, 1.5) * mean_s  # nosec B311  # nothing to guess


async def _slowly(content: bytes, pieces: int = 30) -> AsyncIterator[bytes]:
    size = -(-len(content) // pieces)
    for start in range(0, len(content), size):
        yield content[start : start + size]
        await asyncio.sleep(SLOW_S / pieces)


def holter() -> Body:
    """Three leads of the page's examples, one after the other, HOURS long."""
    sig = np.concatenate([r.sig[:3] for r in bodies.records()], axis=1)
    n_samples = round(HOURS * 3600 * 100)
    sig = np.tile(sig, -(-n_samples // sig.shape[1]))[:, :n_samples]
    out = io.BytesIO()
    np.savez(out, sig=sig, fs=100.0, leads=np.array(["I", "II", "III"]), units="mV")
    return Body("Holter", "/classify", out.getvalue(), bodies.NPZ, n_samples // 1000)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


async def _until(true: Callable[[], bool], at_most_s: float) -> None:
    until = time.monotonic() + at_most_s
    while not true():
        if time.monotonic() > until:
            raise SystemExit(f"no service was ready within {at_most_s:.0f} s")
        await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


if __name__ == "__main__":
    main()
