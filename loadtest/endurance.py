"""python -m loadtest.endurance: past the limit, for long, and with a worker killed.

overload   three times the knee for a minute: served in time or refused, nothing else
malformed  one broken request in a hundred changes no other answer
mix        the mix at shares of a rate: its knee, for the soak
soak       the mix at 70% of its knee: memory, errors, and the tail at the end against the start
kill       SIGKILL to one of two workers under load: only its own requests fail
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from loadtest import bodies, wrk
from loadtest.open_loop import STATUS_REFUSED, Answers, arrive
from loadtest.run import SERVICE, machine
from loadtest.server import ROOT, Served, serving

TIMES, OVERLOAD_S = 3.0, 60
PAUSE_S, LATE_S, BESIDE = 0.1, 0.4, 20.0
SHARES = (0.5, 0.7, 0.85, 1.0, 1.15)
MIX_P99_MS = 1000.0  # of which a single generated ECG takes a tenth, and 32 records as much
WARM_S = 60.0  # of a soak: what is allocated once is allocated by then
WORKER = "_bentoml_impl.worker"  # in a worker's command line


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.endurance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=sorted(TESTS))
    parser.add_argument(
        "--knee",
        type=float,
        required=True,
        help="requests a second: the run's, and for soak the mix's",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="of the soak")
    parser.add_argument("--out", type=Path, default=ROOT / "loadtest" / "results")
    args = parser.parse_args()
    found = {"made": time.strftime("%Y-%m-%d"), "machine": machine(), "knee": args.knee}
    found |= TESTS[args.what](args.knee, args.minutes)
    print(json.dumps(found, indent=1))
    (args.out / f"{args.what}.json").write_text(json.dumps(found, indent=1) + "\n")


def overload(knee: float, _: float) -> dict:
    """The load comes from wrk, which leaves the processor to the service, with as many connections
    as send three times the knee if an answer takes LATE_S; a client of a few requests a second
    beside it sees how long the served ones take."""
    single = [bodies.one_npz(r) for r in bodies.records()]
    connections = math.ceil(TIMES * knee * (PAUSE_S + LATE_S))
    seen: list[Answers] = []
    with serving(SERVICE) as service:
        at_knee = arrive(service.url, "one-npz", knee, 22).after(2)
        beside = threading.Thread(
            target=lambda: seen.append(arrive(service.url, "one-npz", BESIDE, OVERLOAD_S - 5))
        )
        beside.start()
        past = wrk.run(service.url, single, connections, OVERLOAD_S, round(1000 * PAUSE_S))
        beside.join()
    served = past.statuses.get("200", 0)
    refused = sum(past.statuses.get(str(status), 0) for status in STATUS_REFUSED)
    goodput = served / OVERLOAD_S
    (beside_it,) = seen
    return {
        "goodput_at_knee": round(at_knee.goodput, 1),
        "connections": connections,
        "offered": round(past.requests_a_second, 1),
        "offered_to_knee": round(past.requests_a_second / knee, 2),
        "sent": past.requests,
        "served": served,
        "refused": refused,
        "failed": past.requests - served - refused + past.broken,
        "goodput": round(goodput, 1),
        "goodput_to_knee": round(goodput / at_knee.goodput, 3),
        "slowest_answer_ms": past.max_ms,
        "beside": {
            **counts(beside_it),
            "served_p50_ms": round(beside_it.quantile_ms(0.5), 1),
            "served_p99_ms": round(beside_it.quantile_ms(0.99), 1),
        },
    }


def malformed(knee: float, _: float) -> dict:
    """Answers to well-formed requests, alone and among broken ones, must be the same."""
    body = bodies.one_npz(bodies.records()[0])

    def answer(url: str) -> list:
        said = httpx.post(url + body.path, content=body.content, timeout=60).raise_for_status()
        return said.json()["results"]

    with serving(SERVICE) as service:
        alone = answer(service.url)
        among: list[list] = []
        with repeated(lambda: among.append(answer(service.url))):
            broken = arrive(service.url, "one-npz", 0.5 * knee, 20, malformed=0.01)
    return {
        **counts(broken),
        "broken_sent": int((broken.name == "malformed").sum()),
        "compared": len(among),
        "changed": sum(one != alone for one in among),
    }


def mix(rate: float, _: float) -> dict:
    """Each share for 15 s, against one service; the first rate that is not served whole ends it."""
    rows: list[dict] = []
    with serving(SERVICE) as service:
        arrive(service.url, "mix", 0.3 * rate, 10)  # warm
        for share in SHARES:
            seen = arrive(service.url, "mix", share * rate, 17).after(2)
            tail = seen.quantile_ms(0.99)
            rows.append({"rate": round(share * rate, 1), "p99_ms": round(tail, 1), **counts(seen)})
            print(rows[-1], flush=True)
            if not _held(rows[-1]):
                break
    knee = max((row["rate"] for row in rows if _held(row)), default=0.0)
    return {"rates": rows, "knee_of_the_mix": knee}


def _held(row: dict) -> bool:
    return row["p99_ms"] <= MIX_P99_MS and row["served"] == row["sent"]


def soak(knee: float, minutes: float) -> dict:
    memory: list[tuple[float, float]] = []
    with serving(SERVICE) as service:
        began = time.monotonic()
        with repeated(lambda: memory.append((time.monotonic() - began, service.cost().mib))):
            answers = arrive(service.url, "mix", 0.7 * knee, 60 * minutes)
    third = answers.span_s / 3
    last = answers.due_s >= 2 * third
    at, mib = np.array([m for m in memory if m[0] >= WARM_S]).T
    p99 = [answers.where(rows).quantile_ms(0.99) for rows in (answers.due_s < third, last)]
    return {
        "minutes": minutes,
        **counts(answers),
        "mib_at_warm": round(float(mib[0]), 1),
        "mib_at_end": round(float(mib[-1]), 1),
        "mib_a_minute": round(60 * float(np.polyfit(at, mib, 1)[0]), 3),
        "p99_first_third_ms": round(p99[0], 1),
        "p99_last_third_ms": round(p99[1], 1),
        "p99_last_to_first": round(p99[1] / p99[0], 3),
    }


def kill(knee: float, _: float) -> dict:
    """One of two workers is killed ten seconds into thirty."""
    with serving(SERVICE, environment={"ECG_WORKERS": "2"}) as service:
        threading.Timer(10, lambda: worker_of(service).send_signal(signal.SIGKILL)).start()
        answers = arrive(service.url, "one-npz", 0.5 * knee, 30)
    lost = ~answers.served & ~answers.refused
    after = answers.after(20)
    return {
        **counts(answers),
        "lost_due_s": [float(f(answers.due_s[lost])) for f in (np.min, np.max)]
        if lost.any()
        else [],
        "served_share_after": round(float(after.served.mean()), 4),
    }


def worker_of(service: Served):
    """The youngest process that serves."""
    serving_ = [p for p in service.workers() if any(WORKER in part for part in p.cmdline())]
    return serving_[-1]


def counts(answers: Answers) -> dict:
    other = ~answers.served & ~answers.refused & (answers.name != "malformed")
    return {
        "sent": len(answers.ms),
        "served": int(answers.served.sum()),
        "refused": int(answers.refused.sum()),
        "failed": int(other.sum()),
    }


@contextmanager
def repeated(work: Callable[[], object], every_s: float = 1.0) -> Iterator[None]:
    """`work` once a second beside what is done inside; its first error is raised at the end."""
    ended = threading.Event()
    errors: list[Exception] = []

    def again() -> None:
        while not ended.wait(every_s) and not errors:
            try:
                work()
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]


TESTS = {"overload": overload, "malformed": malformed, "mix": mix, "soak": soak, "kill": kill}

if __name__ == "__main__":
    main()
