"""wrk, the closed-loop raw generator: each connection sends again as soon as it is answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bodies import Body

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Rate:
    """What one run of wrk saw. Latencies in ms, of all answers."""

    requests_a_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    refused: int  # status 400 and up
    broken: int  # no answer: connect, read, write or timeout
    statuses: Mapping[str, int]  # answers of each, counted where there is a pause


def run(
    url: str, bodies: Sequence[Body], connections: int, seconds: int, pause_ms: int | None = None
) -> Rate:
    """`connections` clients that post the bodies in turn, for so long, resting between an answer
    and the next request.

    Errors: SystemExit where wrk is missing or ends badly.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for i, body in enumerate(bodies):
            files = [Path(folder) / f"{i}.{what}" for what in ("headers", "body")]
            files[0].write_text("".join(f"{name}: {v}\n" for name, v in body.headers.items()))
            files[1].write_bytes(body.content)
            arguments += [body.path, *map(str, files)]
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s",
                   "-s", str(SCRIPT), url, "--", *arguments]  # fmt: skip
        rest = {} if pause_ms is None else {"PAUSE_MS": str(pause_ms)}
        surroundings = {**os.environ, **rest}
        done = subprocess.run(  # nosec B603  # no shell, nothing from outside
            command, capture_output=True, text=True, env=surroundings
        )
    if done.returncode != 0:
        raise SystemExit(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    said = json.loads(done.stdout.rsplit("\n", 2)[-2])
    return Rate(**said)
