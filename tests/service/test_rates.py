"""Limits over processes: what they let through together, and what the dead leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from service.access.rates import ENVIRONMENT, SLOTS, Rates
from tests.conftest import ROOT

WORKER = """
import sys
from service.access.rates import Rates
rates = Rates.inherited()
print("ready", flush=True)
for line in sys.stdin:
    verb, name, per_minute, at_once, times = line.split()
    if verb == "leave":
        rates.leave(name)
        print("left", flush=True)
        continue
    limits = int(per_minute) or None, int(at_once) or None
    let_in = sum(rates.enter(name, *limits) == 0 for _ in range(int(times)))
    print(let_in, flush=True)
"""


class Workers:
    """Processes that share one memory."""

    def __init__(self, rows: int) -> None:
        self.fd = Rates.make(rows)
        self.started: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=ROOT,
            env={**os.environ, ENVIRONMENT: str(self.fd)},
            pass_fds=[self.fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(worker)
        assert worker.stdout and worker.stdout.readline() == "ready\n"
        return worker

    def end(self) -> None:
        for worker in self.started:
            worker.kill()
            worker.communicate()
        os.close(self.fd)


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Workers:
    made = Workers(4)
    request.addfinalizer(made.end)
    return made


def ask(worker: subprocess.Popen[str], verb: str, name: str, *numbers: int) -> None:
    assert worker.stdin
    worker.stdin.write(" ".join([verb, name, *map(str, numbers)]) + "\n")
    worker.stdin.flush()


def told(worker: subprocess.Popen[str]) -> int:
    assert worker.stdout
    return int(worker.stdout.readline())


def enter(worker: subprocess.Popen[str], name: str, at_once: int, times: int = 1) -> int:
    ask(worker, "enter", name, 0, at_once, times)
    return told(worker)


def test_workers_that_ask_at_the_same_time_let_in_no_more_than_one_would(workers: Workers) -> None:
    three = [workers.start() for _ in range(3)]
    began = time.monotonic()
    for worker in three:
        ask(worker, "enter", "key:a", 600, 0, 2000)
    let_in = sum(told(worker) for worker in three)
    elapsed_s = time.monotonic() - began
    assert 100 <= let_in <= 100 + 10 * elapsed_s + 1
    ask(three[0], "enter", "key:b", 600, 0, 1)
    assert told(three[0]) == 1, "another's limit is its own"


def test_at_once_is_counted_over_workers_and_given_back(workers: Workers) -> None:
    one, other = workers.start(), workers.start()
    assert enter(one, "key:a", 5, times=3) == 3
    assert enter(other, "key:a", 5, times=9) == 2
    ask(other, "leave", "key:a", 0, 0, 0)
    assert other.stdout and other.stdout.readline() == "left\n"
    assert enter(one, "key:a", 5, times=9) == 1


def test_what_a_killed_worker_had_running_is_forgotten_at_once(workers: Workers) -> None:
    one, other = workers.start(), workers.start()
    assert enter(one, "key:a", 5, times=5) == 5
    assert enter(other, "key:a", 5) == 0
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert enter(other, "key:a", 5, times=9) == 5


def test_a_new_worker_takes_the_place_of_a_dead_one(workers: Workers) -> None:
    for _ in range(6):  # more than there are rows
        worker = workers.start()
        assert enter(worker, "key:a", 2, times=3) == 2
        worker.kill()
        worker.wait()


def test_a_request_without_limits_is_let_in() -> None:
    rates = Rates(Rates.make(1))
    assert [rates.enter("key:a", None, None) for _ in range(3)] == [0, 0, 0]


def test_the_allowance_comes_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(Rates.make(1))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    burst = [rates.enter("key:a", 60, None) for _ in range(12)]
    assert burst[:10] == [0.0] * 10
    assert burst[10] == pytest.approx(1.0)
    now += 1.001
    assert [rates.enter("key:a", 60, None) > 0 for _ in range(2)] == [False, True]
    now += 3600
    assert sum(rates.enter("key:a", 60, None) == 0 for _ in range(100)) == 10
    assert rates.enter("key:slow", 1, None) == 0, "even one a minute begins with one"
    assert rates.enter("key:slow", 1, None) == pytest.approx(60)


def fill(once: Callable[[str], float], n: int) -> int:
    return sum(once(f"name {i}") == 0 for i in range(n))


def test_names_without_end_take_no_more_memory_and_wrong_nobody() -> None:
    rates = Rates(Rates.make(1))
    for _ in range(5):
        assert rates.enter("key:a", 30, None) == 0
    counted = fill(lambda name: rates.failed(name, 60), 3 * SLOTS)
    assert counted >= 0.9 * SLOTS, "until nearly every slot is somebody's"
    assert rates.enter("key:a", 30, None) > 0, "callers' limits lie elsewhere"


def test_where_no_slot_is_free_a_limit_holds() -> None:
    rates = Rates(Rates.make(1))
    fill(lambda name: rates.enter(name, 1, 1), 8 * SLOTS)
    assert rates.enter("one too many", 1, 1) == 1.0


def test_memory_of_something_else_is_refused() -> None:
    other = os.memfd_create("other")
    os.ftruncate(other, 4096)
    with pytest.raises(ValueError, match="not made by this service"):
        Rates(other)
    os.close(other)
