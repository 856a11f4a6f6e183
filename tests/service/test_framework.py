"""What BentoML puts around the edge, and what is left of it; in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

LOOK = """
import json
from service.bento import EcgDirenet
from service.wire.door import known_paths
door = EcgDirenet.to_asgi().app
print(json.dumps({
    "middleware": [m.cls.__name__ for m in door.app.user_middleware],
    "known": sorted(known_paths([app for app, *_ in EcgDirenet.mount_apps])),
}))
"""
TRACING = "OpenTelemetryMiddleware"


def look(**settings: str) -> dict[str, Any]:
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", **settings}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def untraced() -> dict[str, Any]:
    return look()


def test_untraced_requests_pay_for_no_tracing(untraced: dict[str, Any]) -> None:
    assert "RunnerTrafficMetricsMiddleware" in untraced["middleware"]
    unused = {TRACING, "TimeoutMiddleware", "ContextMiddleware"}
    assert not unused & set(untraced["middleware"])


def test_the_frameworks_own_traces_with_their_urls_are_never_made() -> None:
    configured = look(BENTOML_CONFIG_OPTIONS="services.tracing.exporter_type=in_memory")
    assert TRACING not in configured["middleware"]


def test_only_paths_without_parameters_are_known_to_the_metrics(untraced: dict[str, Any]) -> None:
    assert {"/classify", "/synthesize", "/models", "/readyz", "/"} <= set(untraced["known"])
    assert not any("{" in path for path in untraced["known"])
