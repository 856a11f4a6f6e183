"""python -m tests.service.openapi_cases URL: the OpenAPI page of a running service, at its word.

Schemathesis makes requests that fit the page and requests that do not, and compares each answer
with what the page says of it: status, media type, headers and schema, without a field that the page
does not tell. What fits may still be no ECG, and is then refused with a documented problem; what
does not fit must be refused. 503 is an answer of a service with too much to do, and counted; 404
and 409 are answers where the page has them: of ids that there are not. A study is made first, and
all is asked with the link of a rater of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from service.rating.openapi import PLAN
from tests.conftest import ROOT

CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = [200, 400, 404, 406, 409, 413, 415, 422, 429, 503]
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 406, 409, 413, 415, 422, 429, 503]
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
"""


def run(
    url: str, a_route: int, seed: int, short: bool = False, page: Path | None = None
) -> tuple[dict[str, int], str]:
    """How often each "method path mode status" came, and what schemathesis says where something
    was wrong, or an empty text.

    a_route: drawn cases; short: these alone, without the corners; page: another than the service's.
    """
    token, presentations = _rater(url)
    with tempfile.TemporaryDirectory() as folder:
        config, counts = Path(folder, "schemathesis.toml"), Path(folder, "counts.json")
        config.write_text(CONFIG)
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *(
                "run",
                str(page or f"{url}/openapi.json"),
                "--url",
                url,
                "--header",
                f"Authorization: Bearer {token}",
                "--seed",
                str(seed),
                "--max-examples",
                str(a_route),
            ),
            *("--phases", "fuzzing" if short else "examples,coverage,fuzzing"),
            *("--continue-on-failure", "--no-color"),
            *("--generation-database", "none", "--request-timeout", "60"),
            *("--suppress-health-check", "all", "--warnings", "off"),
        ]
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.service.openapi_hooks",
            "ECG_CASE_COUNTS": str(counts),
            "ECG_CASE_PRESENTATIONS": " ".join(presentations),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        found = json.loads(counts.read_text()) if counts.exists() else {}
    return found, "" if done.returncode == 0 else done.stdout + done.stderr


def _rater(url: str) -> tuple[str, list[str]]:
    """The token of a rater of a new study, and what they are shown."""
    with httpx.Client(base_url=url, timeout=60) as client:
        name = next(iter(client.get("/studies/list").json()["generators"]))
        plan = {**PLAN, "generated": {name: 6}}
        study = client.post("/studies/create", json=plan).raise_for_status().json()["study"]
        asked = {"study": study, "name": "A program", "simulated": True}
        token = client.post("/studies/invite", json=asked).raise_for_status().json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        n = client.get("/rate/progress").json()["total"]
        shown = [client.get(f"/rate/ecg?position={i}").json()["presentation"] for i in range(n)]
    return token, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--a-route", type=int, default=3000, help="drawn cases")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    counts, wrong = run(args.url, args.a_route, args.seed)
    for name, n in counts.items():
        print(f"{n:7} {name}")
    print(f"{sum(counts.values())} cases, --seed {args.seed}")
    print(wrong or "nothing wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
