"""python -m loadtest.run: what one machine serves, beside what it could do at most.

A bounded set, on loopback, against a service started for it: the limit (preparation and model in
one process), the peak rates of each kind of request (closed loop, wrk), and latency against a
constant arrival rate (open loop, Locust). Everything is measured in turns, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import httpx
import numpy as np

from loadtest import bodies, wrk
from loadtest.bodies import Body
from loadtest.limit import Limit, limits
from loadtest.open_loop import arrive
from loadtest.report import write_csv, write_report
from loadtest.server import ROOT, Served, serving

SERVICE = (".venv/bin/bentoml", "serve", "service.bento:EcgDirenet", "--host", "127.0.0.1",
           "--port", "{port}", "--timeout-keep-alive", "75")  # fmt: skip
CLIENTS = (1, 16, 64)
SHARES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the peak rate, offered
KNEE_P99_MS = 100.0


@dataclass(frozen=True)
class Peak:
    """A scenario at so many clients, the median of the rounds. cpu_ms: the service's, a request."""

    scenario: str
    clients: int
    requests_a_second: float
    segments_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    mib: float
    failed: int


@dataclass(frozen=True)
class Offered:
    """A constant arrival rate, and what came of it."""

    scenario: str
    rate: float
    goodput: float
    p50_ms: float
    p99_ms: float
    failed: int


def main() -> None:
    args = parser().parse_args()
    records = bodies.records()
    with serving(SERVICE) as service:
        card = served_model(service.url)
        folder = ROOT / "models_store" / card["name"]
        for body in (bodies.one_npz(records[0]), bodies.synthesize(1)):
            wrk.run(service.url, [body], 16, 3)  # warm
        found_limits, peaks = [], []
        for k in range(args.rounds):
            print(f"round {k + 1} of {args.rounds}", flush=True)
            found_limits.append(limits(folder, records, args.seconds / 4))
            peaks += [peak_of(service, *job, args.seconds) for job in jobs(records)]
        best = best_limit(found_limits)
        peaks = medians(peaks)
        offered = rates(service, peaks, args.seconds)
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "peaks.csv", map(asdict, peaks))
    write_csv(args.out / "offered.csv", map(asdict, offered))
    said = {
        "made": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "model": {k: card[k] for k in ("name", "version", "sha256")},
        "rounds": args.rounds,
        "limit": asdict(best),
        "knee": asdict(knee(offered)),
    }
    (args.out / "run.json").write_text(json.dumps(said, indent=1) + "\n")
    write_report(args.out, said, peaks, offered)
    print(f"{args.out}: {json.dumps(said['knee'])}")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m loadtest.run", description=(__doc__ or "").partition(": ")[2]
    )
    p.add_argument("--rounds", type=int, default=3, help="of everything, in turns; medians count")
    p.add_argument("--seconds", type=int, default=8, help="of each measurement")
    p.add_argument("--out", type=Path, default=ROOT / "loadtest" / "results")
    return p


def jobs(records: Sequence) -> list[tuple[str, list[Body], int]]:
    """(scenario, bodies, clients) of the closed loop."""
    single = [bodies.one_npz(r) for r in records]
    kinds = {
        "one segment, NPZ": (single, CLIENTS),
        "one segment, JSON": ([bodies.one_json(r) for r in records], (16,)),
        "32 records, NPZ": ([bodies.many_npz(records)], (4, 16)),
        "synthesize, n = 1": ([bodies.synthesize(1)], (1, 32)),
        "synthesize, n = 16": ([bodies.synthesize(16)], (2,)),
    }
    return [(name, some, n) for name, (some, clients) in kinds.items() for n in clients]


def peak_of(service: Served, scenario: str, some: list[Body], clients: int, seconds: int) -> Peak:
    before = service.cost()
    rate = wrk.run(service.url, some, clients, seconds)
    after = service.cost()
    served = rate.requests_a_second * (1 - rate.refused / max(1, rate.requests))
    return Peak(
        scenario=scenario,
        clients=clients,
        requests_a_second=round(served, 1),
        segments_a_second=round(served * some[0].segments, 1),
        p50_ms=rate.p50_ms,
        p99_ms=rate.p99_ms,
        cpu_ms=round(1000 * (after.cpu_s - before.cpu_s) / max(1, rate.requests), 3),
        mib=round(after.mib, 1),
        failed=rate.refused + rate.broken,
    )


def medians(peaks: Sequence[Peak]) -> list[Peak]:
    """One row a scenario and number of clients."""
    keys = dict.fromkeys((p.scenario, p.clients) for p in peaks)
    out = []
    for key in keys:
        same = [p for p in peaks if (p.scenario, p.clients) == key]
        figures = {
            f.name: float(np.median([getattr(p, f.name) for p in same]))
            for f in fields(Peak)
            if f.name not in ("scenario", "clients", "failed")
        }
        out.append(Peak(*key, **figures, failed=sum(p.failed for p in same)))
    return out


def rates(service: Served, peaks: Sequence[Peak], seconds: int) -> list[Offered]:
    """Single segments at shares of their own peak."""
    peak = max(p.requests_a_second for p in peaks if p.scenario == "one segment, NPZ")
    out = []
    for share in SHARES:
        answers = arrive(service.url, "one-npz", share * peak, seconds + 2).after(2)
        failed = int((~answers.served).sum())
        row = Offered("one segment, NPZ", round(share * peak, 1), round(answers.goodput, 1),
                      round(answers.quantile_ms(0.5), 2), round(answers.quantile_ms(0.99), 2),
                      failed)  # fmt: skip
        print(row, flush=True)
        out.append(row)
    return out


def knee(offered: Sequence[Offered]) -> Offered:
    """The highest rate that is served whole with a p99 that an operator would still plan on."""
    held = [o for o in offered if o.p99_ms <= KNEE_P99_MS and o.goodput >= 0.98 * o.rate]
    return max(held, key=lambda o: o.rate, default=offered[0])


def best_limit(rounds: Sequence[Sequence[Limit]]) -> Limit:
    """The topology whose median over the rounds is highest, with that median."""
    by_topology: dict[tuple[int, int, int], list[Limit]] = {}
    for one in (limit for round_ in rounds for limit in round_):
        by_topology.setdefault((one.runs, one.threads, one.batch), []).append(one)
    middle = [sorted(same, key=lambda o: o.segments_a_second)[len(same) // 2]
              for same in by_topology.values()]  # fmt: skip
    return max(middle, key=lambda one: one.segments_a_second)


def served_model(url: str) -> dict:
    models = httpx.get(f"{url}/models", timeout=30).raise_for_status().json()["models"]
    return next(m for m in models if m["task"] == "classification")


def machine() -> str:
    """The processor, cores and memory: nothing that names the machine."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB"


if __name__ == "__main__":
    main()
