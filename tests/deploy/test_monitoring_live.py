"""The real Prometheus watches a real service: every panel shows data, alerts fire when it is so."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from ecg.record import Record
from tests.conftest import running_service, wfdb_files
from tests.deploy.monitoring import (
    JOB,
    PROMETHEUS,
    PROMTOOL,
    Prometheus,
    dashboard,
    queries,
    rule_groups,
)
from tests.service.bodies import as_csv, as_json, as_npz, as_parts, npz
from tests.service.collector import Collector

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (PROMETHEUS and PROMTOOL), reason="there is no Prometheus here"),
]
DAY_S = 86_400
SETTINGS = {
    "ECG_WORKERS": "2",
    "ECG_TIMEOUT_S": "25",
    "ECG_MAX_DELAY_S": "60",
    "ECG_TRACES_RATIO": "1",
    "ECG_AUDIT": "on",
}


def past(now: float) -> str:
    """What the service is taken to have been like a week and four weeks ago, when it saw a thousand
    records a day: a tenth poor, a fifth abnormal, half of the probabilities up to 0.1."""
    shares = {"abnormal:share": 0.2, "bad_quality:share": 0.1}
    counts = {"answered:increase": 1000, "all:increase": 1000}
    counts |= {"abnormal:increase": 200, "bad_quality:increase": 100}
    series = {f"ecg:{name}1d": value for name, value in (shares | counts).items()}
    series |= {f"ecg:{name}7d": 7 * value for name, value in counts.items()}
    series |= {"ecg:abnormal:share7d": 0.2}
    at = [now - weeks * 7 * DAY_S + s for weeks in (4, 1) for s in range(-60, 1200, 5)]
    lines = []
    for name, value in series.items():
        lines.append(f"# TYPE {name} gauge")
        lines += [f'{name}{{job="{JOB}"}} {value} {t:.3f}' for t in at]
    lines.append("# TYPE ecg:atrial_probability:cdf1d gauge")
    for le in [f"{n / 20}" for n in range(1, 20)] + ["+Inf"]:
        share = 1.0 if le == "+Inf" else min(1.0, 0.5 + float(le) / 2)
        lines += [
            f'ecg:atrial_probability:cdf1d{{job="{JOB}",le="{le}"}} {share} {t:.3f}' for t in at
        ]
    return "\n".join([*lines, "# EOF\n"])


def several(*records: Record) -> bytes:
    return npz(
        sig=np.stack([record.sig for record in records]),
        fs=records[0].fs,
        leads=np.array(records[0].leads),
        units="mV",
    )


async def all_kinds(url: str, records: dict[str, Record], seconds: float) -> dict[str, int]:
    """Requests of every outcome, again and again; how many of each quality and substrate."""
    good, abnormal = records["00009_lr"], records["01275_lr"]
    loose = good.sig.copy()
    loose[6] = 0.0
    poor = dataclasses.replace(good, sig=loose)
    unusable = dataclasses.replace(good, sig=np.zeros_like(good.sig))
    seen: dict[str, int] = {}

    async def post(client: httpx.AsyncClient, path: str, status: int, **given: object) -> None:
        answer = await client.post(path, **given)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        if path == "/classify" and status == 200:
            for result in answer.json()["results"]:
                for word in (result["quality"]["status"], result["atrial_substrate"]["status"]):
                    seen[word] = seen.get(word, 0) + 1

    until = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while time.monotonic() < until:
            batch = several(*[good] * 4, *[abnormal] * 10, *[poor] * 10, *[unusable] * 2)
            svg, npz_answer = {"accept": "image/svg+xml"}, {"accept": "application/x-npz"}
            order = b'{"n": 12, "statements": ["AFIB"]}'  # takes long enough to be seen waiting
            await asyncio.gather(
                post(client, "/classify", 200, content=batch),
                post(client, "/classify", 200, content=as_json(good)),
                post(client, "/classify", 200, files=as_parts(wfdb_files("00038_lr"))),
                post(client, "/classify?fs=100&units=mV", 200, content=as_csv(abnormal)),
                post(client, "/classify", 415, content=b"nonsense"),
                post(client, "/classify", 422, content=as_json(good, fs=20)),
                post(client, "/print", 200, content=as_npz(good), headers=svg),
                post(client, "/strip", 200, content=as_npz(good), headers=svg),
                post(client, "/synthesize", 200, content=order, headers=npz_answer),
                post(client, "/synthesize", 422, content=b'{"n": 0}'),
            )
            await asyncio.sleep(0.2)
    return seen


def filled_in(expr: str) -> str:
    given = {"$__rate_interval": "30s", "$job": JOB, "$instance": ".*"}
    for name, value in given.items():
        expr = expr.replace(name, value)
    return expr


def test_every_panel_shows_data_and_alerts_fire(tmp_path: Path, records: dict[str, Record]) -> None:
    with (
        Collector() as collector,
        running_service(
            tmp_path,
            ECG_TRACES=collector.url,
            ECG_DATABASE_URL=f"sqlite:///{tmp_path}/audit.sqlite",
            **SETTINGS,
        ) as service,
    ):
        prometheus = Prometheus(tmp_path, f"127.0.0.1:{service.port}")
        prometheus.remember(past(time.time()))
        with prometheus:
            seen = asyncio.run(all_kinds(service.url, records, 45))
            assert set(seen) == {
                "acceptable",
                "poor",
                "unusable",
                "normal",
                "abnormal",
                "abstained",
            }
            time.sleep(3)
            check_rules(prometheus)
            check_panels(prometheus)
            # A fifth was abnormal and a tenth poor, and now it is nearly a half of each.
            prometheus.wait_for(
                "EcgSubstrateDrift", "EcgQualityDrift", "EcgProbabilityDrift", seconds=30
            )
            assert not prometheus.firing() & {"EcgServiceDown", "EcgNoModel", "EcgErrorsFast"}
            fail(service, prometheus)
            lose_a_worker(service, prometheus)
            service.process.terminate()
            prometheus.wait_for("EcgServiceDown", "EcgInstanceDown")


def check_rules(prometheus: Prometheus) -> None:
    loaded = [r for group in prometheus.get("/rules")["groups"] for r in group["rules"]]
    assert len(loaded) == sum(len(group["rules"]) for group in rule_groups())
    assert {rule["health"] for rule in loaded} == {"ok"}, [
        (rule["name"], rule.get("lastError")) for rule in loaded if rule["health"] != "ok"
    ]
    (target,) = prometheus.get("/targets")["activeTargets"]
    assert target["health"] == "up"


def check_panels(prometheus: Prometheus) -> None:
    empty = {
        (query.panel, query.expr)
        for query in queries()
        if not prometheus.values(filled_in(query.expr))
    }
    assert empty == set()
    zeros = {
        (panel, expr)
        for panel, expr in set(queries())
        if panel not in STILL and not any(prometheus.values(filled_in(expr)))
    }
    assert not {(panel, expr) for panel, expr in zeros if "or vector(0)" not in expr}
    for variable in dashboard()["templating"]["list"][1:]:
        asked = variable["query"]["query"].replace("$job", JOB)
        series, label = asked.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        assert prometheus.values(f"count by ({label}) ({series})"), asked


# Where zeros are what a healthy service shows.
STILL = {"Error ratio", "Errors", "Spooled", "Waiting", "Workers"}


def fail(service: running_service, prometheus: Prometheus) -> None:
    """Orders that cannot be met in time, which are answered 503."""

    async def ask() -> set[int]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            order = b'{"n": 64, "num_steps": 64, "guidance_scale": 3}'
            posts = (client.post("/synthesize", content=order) for _ in range(8))
            return {answer.status_code for answer in await asyncio.gather(*posts)}

    assert asyncio.run(ask()) == {503}
    prometheus.wait_for("EcgErrorsFast", "EcgErrorsSteady", "EcgErrorsSlow")
    assert prometheus.values(f'ecg:error_ratio:rate5m{{job="{JOB}"}} > 0', 10)


def lose_a_worker(service: running_service, prometheus: Prometheus) -> None:
    """One is killed while the process that would replace it is halted; then it goes on."""
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        os.kill(min(service.worker_pids()), signal.SIGKILL)
        prometheus.wait_for("EcgWorkersMissing", seconds=60)
    finally:
        os.kill(service.process.pid, signal.SIGCONT)
    deadline = time.monotonic() + 90
    while "EcgWorkersMissing" in prometheus.firing():
        assert time.monotonic() < deadline, "a worker took its place, and the alert ends"
        time.sleep(0.5)
