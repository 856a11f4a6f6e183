"""What is made of measured numbers: medians, the best limit, the knee, the tables."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from loadtest import report
from loadtest.endurance import counts, repeated
from loadtest.limit import Limit
from loadtest.open_loop import Answers
from loadtest.run import Offered, Peak, best_limit, knee, medians

SAID = {
    "machine": "a processor, 2 cores, 4 GiB", "made": "2026-01-01", "rounds": 3,
    "model": {"name": "prednet", "version": "1.0.0", "sha256": "0123456789abcdef"},
    "limit": {"segments_a_second": 1000.0, "runs": 2, "threads": 1, "batch": 8,
              "preparation_ms": 0.5, "model_ms": 1.25},
    "knee": {"rate": 400.0, "p50_ms": 4.0, "p99_ms": 20.0},
}  # fmt: skip


def peak(rate: float, clients: int = 16, failed: int = 0) -> Peak:
    return Peak("one segment, NPZ", clients, rate, rate, 1000 / rate, 2000 / rate, 1.0, 9.0, failed)


def test_medians_are_of_each_scenario_and_number_of_clients() -> None:
    rounds = [peak(300), peak(50, 1), peak(100, failed=1), peak(60, 1), peak(200), peak(55, 1)]
    found = medians(rounds)
    assert [(p.clients, p.requests_a_second) for p in found] == [(16, 200), (1, 55)]
    assert [p.failed for p in found] == [1, 0], "one failure in any round is not lost"


def test_the_best_limit_is_the_highest_median_not_the_luckiest_round() -> None:
    def limits(*rates: float) -> list[Limit]:
        return [Limit(k + 1, 1, 8, rate, 0.1, 0.1) for k, rate in enumerate(rates)]

    best = best_limit([limits(100, 900), limits(110, 90), limits(120, 80)])
    assert (best.runs, best.segments_a_second) == (1, 110)


def test_the_knee_is_the_highest_rate_that_is_served_whole_and_soon() -> None:
    def offered(rate: float, goodput: float, p99_ms: float) -> Offered:
        return Offered("one segment, NPZ", rate, goodput, 1.0, p99_ms, 0)

    rows = [offered(100, 100, 5), offered(200, 199, 40), offered(300, 299, 400),
            offered(400, 300, 50)]  # fmt: skip
    assert knee(rows).rate == 200
    assert knee([offered(100, 10, 900)]).rate == 100, "none holds: the lowest, as it was"


def test_the_tables_say_the_share_of_the_limit_and_stand_between_the_marks(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "README", readme)
    offered = [Offered("one segment, NPZ", 400.0, 399.0, 4.0, 20.0, 0)]
    report.write_report(tmp_path, SAID, [peak(600)], offered)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "1,000 segments a second, 2 run(s) at a time of 1 thread(s)" in text
    assert "| one segment, NPZ | 16 | 600 | 600 | 60% |" in text
    assert "`0123456789ab…`" in text
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_answers_are_counted_by_what_a_client_may_expect() -> None:
    answers = Answers(
        due_s=np.arange(6.0),
        name=np.array(["x"] * 5 + ["malformed"]),
        status=np.array([200, 200, 429, 503, 500, 400]),
        ms=np.array([10.0, 30.0, 1.0, 1.0, 1.0, 1.0]),
    )
    assert counts(answers) == {"sent": 6, "served": 2, "refused": 2, "failed": 1}
    assert answers.quantile_ms(0.5) == 20.0
    assert answers.goodput == pytest.approx(2 / 5)
    assert answers.after(1.0).served.sum() == 1
    assert np.isinf(answers.after(2.0).quantile_ms(0.5)), "none was served"


def test_an_error_beside_a_measurement_is_not_lost() -> None:
    def fails() -> None:
        raise ValueError

    with pytest.raises(ValueError), repeated(fails, every_s=0.01):
        time.sleep(0.1)


def test_rows_of_different_kinds_share_a_table(tmp_path: Path) -> None:
    report.write_csv(tmp_path / "t.csv", [{"a": 1}, {"b": "x"}])
    assert (tmp_path / "t.csv").read_text().split() == ["a,b", "1,", ",x"]
