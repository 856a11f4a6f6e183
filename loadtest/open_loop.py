"""Locust without its page: a constant arrival rate for so long, and what came of it."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
STREAMS = 8
STATUS_OK, STATUS_REFUSED = (200,), (429, 503)


@dataclass(frozen=True)
class Answers:
    """Of each arrival, in the order in which they were due."""

    due_s: np.ndarray
    name: np.ndarray
    status: np.ndarray
    ms: np.ndarray

    @property
    def served(self) -> np.ndarray:
        return np.isin(self.status, STATUS_OK)

    @property
    def refused(self) -> np.ndarray:
        return np.isin(self.status, STATUS_REFUSED)

    def after(self, seconds: float) -> Answers:
        """Without those that were due in the first seconds, when everything is cold."""
        return self.where(self.due_s >= seconds)

    def where(self, rows: np.ndarray) -> Answers:
        return Answers(self.due_s[rows], self.name[rows], self.status[rows], self.ms[rows])

    def quantile_ms(self, q: float) -> float:
        """Of the served ones."""
        return float(np.quantile(self.ms[self.served], q)) if self.served.any() else math.inf

    @property
    def span_s(self) -> float:
        return float(np.ptp(self.due_s)) if len(self.due_s) > 1 else 0.0

    @property
    def goodput(self) -> float:
        """Served requests a second."""
        return float(self.served.sum()) / self.span_s if self.span_s else 0.0


def arrive(url: str, scenario: str, rate: float, seconds: float, malformed: float = 0.0) -> Answers:
    """`rate` arrivals a second of a scenario of `loadtest.locustfile`."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "answers.csv"
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless",
                   "--host", url, "-u", str(STREAMS), "-r", str(STREAMS), "-t", f"{seconds:g}s",
                   "--exit-code-on-error", "0", "--loglevel", "WARNING",
                   "--scenario", scenario, "--rate-each", str(rate / STREAMS),
                   "--malformed", str(malformed), "--answers", str(rows)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)  # nosec B603  # no shell
        if not rows.exists():
            raise SystemExit(f"locust failed: {done.stderr[-2000:]}")
        with rows.open(newline="") as f:
            read = list(csv.DictReader(f))
    return Answers(
        np.array([float(r["due_s"]) for r in read]),
        np.array([r["name"] for r in read]),
        np.array([int(r["status"]) for r in read]),
        np.array([float(r["ms"]) for r in read]),
    )
