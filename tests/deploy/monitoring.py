"""The rules and the dashboard as the tests read them, and a Prometheus of their own."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from prometheus_client import REGISTRY

from service import metrics
from tests.conftest import ROOT

HOME = ROOT / "deploy" / "monitoring"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
JOB = "ecg-direnet"
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}
_WORDS = {"and", "or", "unless", "offset", "by", "on", "group_left", "bool"}


def rule_groups() -> list[dict[str, Any]]:
    return yaml.safe_load((HOME / "rules.yaml").read_text())["groups"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in rule_groups() for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return json.loads((HOME / "dashboard.json").read_text())


class Query(NamedTuple):
    panel: str
    expr: str


def queries() -> list[Query]:
    """Of every panel."""
    return [
        Query(panel["title"], target["expr"])
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def exported() -> dict[str, set[str]]:
    """What service/metrics.py exports, by name as Prometheus sees it, and its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            (family,) = metric.describe()
            labels = {*metric._labelnames, "job", "instance", "le", "pid"}
            found |= {family.name + suffix: labels for suffix in _SUFFIXES[family.type]}
    assert found and REGISTRY
    return found


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def metrics_in(expr: str) -> set[str]:
    """The names of the series that a query reads."""
    bare = re.sub(r'"[^"]*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|group_left)\s*\([^)]*\)", "", bare)
    names = re.finditer(r"(?<![\w:.])([A-Za-z_:][\w:]*)(?!\s*\(|[\w:])", bare)
    return {m[1] for m in names} - _WORDS


def selectors_in(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Each series that a query reads with matchers, and their labels."""
    for name, matchers in re.findall(r"([A-Za-z_:][\w:]*)\{([^}]*)\}", expr):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


class Prometheus:
    """The real one, at a port of its own, with our configuration: only quicker.

    What takes minutes takes seconds, and an alert is no longer waited for than it takes to see it.
    """

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self._port = s.getsockname()[1]
        config = yaml.safe_load((HOME / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        groups = rule_groups()
        for group in groups:
            group.pop("interval", None)
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "2s"
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}/api/v1", timeout=30)

    def remember(self, openmetrics: str) -> None:
        """Series of the past, before it starts."""
        past = self._folder / "past.txt"
        past.write_text(openmetrics)
        command = [str(PROMTOOL), "tsdb", "create-blocks-from", "openmetrics", str(past)]
        command.append(str(self._folder / "data"))
        subprocess.run(command, check=True, capture_output=True)

    def __enter__(self) -> Prometheus:
        self._log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                str(PROMETHEUS),
                f"--config.file={self._folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                "--storage.tsdb.retention.time=60d",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self._client.get(f"http://127.0.0.1:{self._port}/-/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        self.__exit__()
        raise RuntimeError((self._folder / "prometheus.log").read_text()[-2000:])

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()
        self._client.close()

    def get(self, path: str, **query: str) -> Any:
        answer = self._client.get(path, params=query).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expr: str, seconds: float = 60) -> list[float]:
        """All finite values of a query in the last seconds."""
        end = time.time()
        window = {"start": str(end - seconds), "end": str(end), "step": "2"}
        found = self.get("/query_range", query=expr, **window)["result"]
        numbers = (float(value) for series in found for _, value in series["values"])
        return [number for number in numbers if math.isfinite(number)]

    def firing(self) -> set[str]:
        alerts = self.get("/alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def wait_for(self, *alerts: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not set(alerts) <= (firing := self.firing()):
            assert time.monotonic() < deadline, f"{alerts} were to fire, there are {firing}"
            time.sleep(0.5)
