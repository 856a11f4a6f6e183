"""The properties again, of many more and of other drawn cases than the usual run has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROPERTIES = (
    "tests/ecg/formats/test_round_trips.py",
    "tests/ecg/test_invariants.py",
    "tests/ecg/test_leads.py",
    "tests/ecg/test_decision.py",
    "tests/service/test_requests.py",
)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("file", PROPERTIES)
def test_ten_times_as_many_cases(file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "--timeout=3600"],
        cwd=ROOT,
        env={**os.environ, "ECG_PROPERTIES": "long"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
