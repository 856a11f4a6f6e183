"""The rules, the scrape configuration and the dashboard: well formed, and of metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import DATA
from tests.deploy.monitoring import (
    HOME,
    OF_PROMETHEUS,
    PROMTOOL,
    dashboard,
    exported,
    metrics_in,
    queries,
    recorded,
    rules,
    selectors_in,
)

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool here")
ALERTS = [rule["alert"] for rule in rules() if "alert" in rule]
EVERY_QUERY = [query.expr for query in queries()] + [rule["expr"] for rule in rules()]


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *arguments], cwd=HOME, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", "rules.yaml")
    promtool("check", "config", "prometheus.yaml")


@needs_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", "rules_test.yaml")


@needs_promtool
@pytest.mark.slow
def test_each_alert_of_drift_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", "drift_test.yaml")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_and_says_what_to_do(alert: str) -> None:
    (rule,) = [rule for rule in rules() if rule.get("alert") == alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["runbook"]) > 60
    tests = [
        yaml.safe_load((HOME / f"{name}_test.yaml").read_text()) for name in ("rules", "drift")
    ]
    fired = json.dumps(
        [
            case.get("exp_samples")
            for file in tests
            for test in file["tests"]
            for case in test["promql_expr_test"]
        ]
    )
    assert f'alertname=\\"{alert}\\"' in fired


@pytest.mark.parametrize("expr", EVERY_QUERY)
def test_every_query_is_of_metrics_and_labels_that_exist(expr: str) -> None:
    names = metrics_in(expr)
    ours = exported()
    assert names <= set(ours) | recorded() | set(OF_PROMETHEUS), names
    for name, labels in selectors_in(expr):
        if name in ours or name in OF_PROMETHEUS:
            assert labels <= (ours | OF_PROMETHEUS)[name]


def test_the_queries_are_read_rightly() -> None:
    assert metrics_in(
        'sum by (job, le) (rate(a_total{x="b_c"}[5m])) / on (d) group_left () (e > 0)'
    ) == {
        "a_total",
        "e",
    }
    assert metrics_in("ecg:a:b1d offset 1w - 2 * x unless y") == {"ecg:a:b1d", "x", "y"}


def test_what_is_exported_is_shown() -> None:
    """On the dashboard or by an alert: a figure that nobody reads is not worth its cost."""
    read = set().union(*(metrics_in(expr) for expr in EVERY_QUERY))
    families = {re.sub("_(total|bucket|count|sum)$", "", name) for name in exported()}
    shown = {re.sub("_(total|bucket|count|sum)$", "", name) for name in read}
    assert families <= shown


def problems_with(value: Any, schema: Any) -> list[str]:
    found = jsonschema.Draft7Validator(schema).iter_errors(value)
    return [f"{list(error.path)}: {error.message[:200]}" for error in found]


def test_the_dashboard_is_as_grafana_describes_one() -> None:
    schema = json.loads((DATA / "grafana_dashboard.schema.json").read_text())
    board = dashboard()
    found = problems_with(board, schema["dashboard"])
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        found += problems_with(panel["options"], schema["options"][panel["type"]])
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        found += problems_with(custom, schema["custom"].get(panel["type"], {}))
    assert not found
    assert problems_with({**board, "panels": [{"title": "of no type"}]}, schema["dashboard"])


def test_panels_lie_side_by_side_and_have_names_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_goes_by_its_variables() -> None:
    board = dashboard()
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert names == {"datasource", "job", "instance"}
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            used = set(re.findall(r"\$(\w+)", target["expr"]))
            assert used <= names | {"__rate_interval"}
            assert "$job" in target["expr"] or "ALERTS" in target["expr"]
