"""Open-loop load for Locust: requests arrive at a constant rate, however long answers take.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:3000 --scenario mix --rate-each 10

Each of Locust's users is a stream of `--rate-each` arrivals a second; more users, or more of
Locust's workers on other machines, are more arrivals. A latency counts from the moment that a
request was due, so a client or a server that stalls does not hide what waited meanwhile.
"""

from __future__ import annotations

import csv
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent.pool import Group
from locust import FastHttpUser, events, task

from loadtest import bodies
from loadtest.bodies import Body

RECORDS = bodies.records()
# A hospital's: carts send single ECGs, a gateway writes JSON, an archive sends many at once, and a
# researcher asks for a few. The weights are a choice, not a measurement.
MIX = {"one-npz": 70, "one-json": 20, "many-npz": 8, "synthesize-1": 2}
SCENARIOS: dict[str, Callable[[], list[Body]]] = {
    "one-npz": lambda: [bodies.one_npz(r) for r in RECORDS],
    "one-json": lambda: [bodies.one_json(r) for r in RECORDS],
    "many-npz": lambda: [bodies.many_npz(RECORDS)],
    "synthesize-1": lambda: [bodies.synthesize(1)],
    "synthesize-16": lambda: [bodies.synthesize(16)],
}


@events.init_command_line_parser.add_listener
def _options(parser) -> None:
    parser.add_argument("--scenario", choices=(*SCENARIOS, "mix"), default="one-npz")
    parser.add_argument("--rate-each", type=float, default=10.0, help="arrivals a second of a user")
    parser.add_argument("--malformed", type=float, default=0.0, help="share of broken requests")
    parser.add_argument("--answers", default="", help="a CSV with a row an answer")


def drawn(scenario: str, malformed: float, rng: random.Random) -> Callable[[], Body]:
    """The next request's body, drawn anew each time."""
    names = MIX if scenario == "mix" else {scenario: 1}
    choices = {name: SCENARIOS[name]() for name in names}
    broken = bodies.malformed()

    def draw() -> Body:
        if rng.random() < malformed:
            return broken
        (name,) = rng.choices(list(names), list(names.values()))
        return rng.choice(choices[name])

    return draw


class Stream(FastHttpUser):
    """Arrivals at a constant rate, each in a greenlet of its own."""

    concurrency = 4096
    connection_timeout = network_timeout = 60.0

    @task
    def arrivals(self) -> None:
        options = self.environment.parsed_options
        rng = random.Random()  # nosec B311  # draws the load
        draw = drawn(options.scenario, options.malformed, rng)
        began = time.perf_counter() + rng.random() / options.rate_each  # users are not in step
        under_way = Group()
        try:
            for k in itertools.count():
                due = began + k / options.rate_each
                gevent.sleep(max(0.0, due - time.perf_counter()))
                under_way.spawn(self.send, draw(), due)
        finally:
            under_way.join(timeout=60)  # what was sent is waited for when the test ends

    def send(self, body: Body, due: float) -> None:
        headers = dict(body.headers)
        with self.client.post(
            body.path, data=body.content, headers=headers, name=body.name, catch_response=True
        ) as answer:
            answer.request_meta["response_time"] = 1000 * (time.perf_counter() - due)
            answer.request_meta["context"] = {"status": answer.status_code, "due": due}
            if body.segments == 0 and answer.status_code == 400:
                answer.success()  # what a malformed request should get


@events.init.add_listener
def _keep_answers(environment, **_) -> None:
    """One row an answer: seconds since the first was due, name, status, ms from due to answered."""
    path = environment.parsed_options.answers if environment.parsed_options else ""
    if not path:
        return
    rows: list[tuple[float, str, int, float]] = []

    @environment.events.request.add_listener
    def keep(name, response_time, context, **_) -> None:
        rows.append((context.get("due", 0.0), name, context.get("status", 0), response_time))

    @environment.events.quitting.add_listener
    def write(**_) -> None:
        first = min((due for due, *_ in rows), default=0.0)
        with Path(path).open("w", newline="") as f:
            out = csv.writer(f)
            out.writerow(("due_s", "name", "status", "ms"))
            out.writerows((round(d - first, 4), n, s, round(ms, 3)) for d, n, s, ms in sorted(rows))
