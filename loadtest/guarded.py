"""python -m loadtest.guarded: what keys and the audit cost a request, against a service without.

Each is a service of its own, started for it; they are measured in turns, in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace

from loadtest import bodies, wrk
from loadtest.run import SERVICE
from loadtest.server import ROOT, serving

CLIENTS = (1, 16)
PYTHON = ".venv/bin/python"


@dataclass(frozen=True)
class Guard:
    """A way to serve: what is switched on, and the database where it is not a new SQLite file."""

    name: str
    access: bool
    audit: bool
    database: str | None = None


def main() -> None:
    args = parser().parse_args()
    guards = [
        Guard("neither", access=False, audit=False),
        Guard("keys", access=True, audit=False),
        Guard("audit, SQLite", access=False, audit=True),
        Guard("keys and audit, SQLite", access=True, audit=True),
    ]
    if args.postgresql:
        guards.append(Guard("keys and audit, PostgreSQL", True, True, args.postgresql))
    found: dict[tuple[str, int], list[wrk.Rate]] = {}
    for k in range(args.rounds):
        print(f"round {k + 1} of {args.rounds}", flush=True)
        for guard in guards:
            for clients, rate in measured(guard, args.seconds):
                found.setdefault((guard.name, clients), []).append(rate)
    print("\n".join(table([g.name for g in guards], found)))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m loadtest.guarded", description=(__doc__ or "").partition(": ")[2]
    )
    p.add_argument("--rounds", type=int, default=3, help="in turns; medians count")
    p.add_argument("--seconds", type=int, default=8, help="of each measurement")
    p.add_argument("--postgresql", metavar="URL", help="of an empty database, measured too")
    return p


def measured(guard: Guard, seconds: int) -> list[tuple[int, wrk.Rate]]:
    """Single segments, posted by each number of clients to a service so guarded."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "ECG_ACCESS": "on" if guard.access else "off",
            "ECG_AUDIT": "on" if guard.audit else "off",
            "ECG_DATABASE_URL": guard.database or f"sqlite:///{folder}/state.db",
            "ECG_AUDIT_SPOOL": f"{folder}/spool",
        }
        headers = {"Authorization": f"Bearer {new_key(environment)}"} if guard.access else {}
        singles = [bodies.one_npz(record) for record in bodies.records()]
        posted = [replace(body, headers={**body.headers, **headers}) for body in singles]
        with serving(SERVICE, environment=environment) as service:
            wrk.run(service.url, posted, 16, 3)  # warm
            return [(n, wrk.run(service.url, posted, n, seconds)) for n in CLIENTS]


def new_key(environment: Mapping[str, str]) -> str:
    command = [PYTHON, "-m", "service.keys", "create", "--name", "load", "--scopes", "classify"]
    done = subprocess.run(  # nosec B603  # a command of ours, without a shell
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return next(word for word in done.stdout.split() if word.startswith("ecg_"))


def table(names: list[str], found: Mapping[tuple[str, int], list[wrk.Rate]]) -> list[str]:
    """Medians of the rounds, and how they stand to the first row's."""
    rows = ["| | clients | requests/s | of the first | p50 ms | p99 ms | failed |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    for clients in CLIENTS:
        first = None
        for name in names:
            rates = found[name, clients]
            a_second, p50, p99 = (
                statistics.median(getattr(rate, figure) for rate in rates)
                for figure in ("requests_a_second", "p50_ms", "p99_ms")
            )
            first = first or a_second
            failed = sum(rate.refused + rate.broken for rate in rates)
            rows.append(
                f"| {name} | {clients} | {a_second:,.0f} | {a_second / first:.2f} | {p50:.1f} "
                f"| {p99:.1f} | {failed} |"
            )
    return rows


if __name__ == "__main__":
    main()
