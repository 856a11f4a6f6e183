"""Services replaced under load behind the real HAProxy, by the configuration that ships."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pytest

from loadtest import rolling

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not here")
COMMAND = (sys.executable, "-m", "bentoml", *rolling.SERVICE[1:])
DRAIN_S = 15.0  # as shipped


def test_the_configuration_is_valid_and_kills_no_session() -> None:
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(rolling.CONFIGURATION)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    lines = [line.split("#")[0] for line in rolling.CONFIGURATION.read_text().splitlines()]
    assert not any("on-marked-down" in line or "retry-on" in line for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_updates_under_load_fail_no_request() -> None:
    found = roll(4, DRAIN_S)
    assert found["failures"] == []
    assert found["retried_by_haproxy"] == 0
    assert len(found["answered"]) == 8, "every kind of client was answered"
    assert found["requests"] == sum(found["answered"].values()) > 100
    for update in found["each"]:
        assert update["code"] == 0 and update["in_flight"] > 0
        assert update["sent_to_it_s"] < DRAIN_S <= update["ended_s"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_without_the_drain_the_same_updates_fail_requests() -> None:
    """Or the test above would show nothing."""
    assert roll(4, 0)["failed"] > 0


def roll(updates: int, drain_s: float) -> dict[str, Any]:
    return rolling.roll(updates, drain_s, workers=2, command=COMMAND)
