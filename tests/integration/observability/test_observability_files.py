"""Dashboards and alert rules are held to the table of series, the rules also to what Prometheus makes of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernel.metrics import SERIES, Kind
from tests.support.requires import requires

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "deploy" / "observability"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
PAGE = ROOT / "docs" / "observing.md"

BY_NAME = {series.name: series for series in SERIES}
OF_THE_CLIENT = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
"""Of the Prometheus client's own series those that queries may name."""
OF_THE_SCRAPE = {"job", "instance"}
_SELECTOR = re.compile(r"(?<![\w:])([a-z_:][\w:]*)(\s*\()?(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_WORDS = {"by", "without", "on", "ignoring", "and", "or", "unless", "offset", "bool", "le"}

needs_promtool = requires(
    "promtool", available=shutil.which("promtool") is not None, reason="apt-get install prometheus"
)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Every query and where it stands."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """The series that a query names, each with the labels that it is asked for."""
    bare = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub(" ", query))
    for name, is_function, labels in _SELECTOR.findall(re.sub(r'"[^"]*"', '""', bare)):
        if not is_function and name not in _WORDS:
            yield name, set(re.findall(r"(\w+)\s*[=!]", labels))


def of_table(name: str) -> tuple[str, set[str]]:
    """The row behind a name in a query, and the labels that it may be asked for. `KeyError` for an unknown one."""
    if name in OF_THE_CLIENT:
        return "", set(OF_THE_SCRAPE)
    if name in BY_NAME and BY_NAME[name].kind is not Kind.HISTOGRAM:
        return name, {*BY_NAME[name].labels, *OF_THE_SCRAPE}
    base, _, part = name.rpartition("_")
    if part not in {"bucket", "sum", "count"} or BY_NAME[base].kind is not Kind.HISTOGRAM:
        raise KeyError(name)
    return base, {*BY_NAME[base].labels, *OF_THE_SCRAPE, "le"}


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_series_and_label_of_every_query_stands_in_the_table(where: str, query: str) -> None:
    grouped = {label.strip() for labels in _GROUPING.findall(query) for label in labels.split(",")}
    allowed: set[str] = set()
    found = list(selectors(query))
    assert found, where
    for name, labels in found:
        _, known = of_table(name)
        assert labels <= known, (where, name, labels - known)
        allowed |= known
    assert grouped <= allowed, (where, grouped - allowed)


def test_every_series_of_the_table_is_looked_at_somewhere() -> None:
    used = {of_table(name)[0] for _, query in queries() for name, _ in selectors(query)}
    assert {series.name for series in SERIES} - used == set()


def test_a_query_that_names_something_else_would_be_found_out() -> None:
    assert list(selectors('rate(no_such_total{run="x"}[5m]) > 1')) == [("no_such_total", {"run"})]
    with pytest.raises(KeyError):
        of_table("no_such_total")
    with pytest.raises(KeyError):
        of_table("run_duration_seconds")


def test_every_alert_says_what_to_do() -> None:
    headings = set(re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE))
    assert headings == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/observing.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_every_alert_is_proved_to_fire() -> None:
    tests = yaml.safe_load((FILES / "alerts.test.yaml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_can_be_taken_into_any_grafana(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["title"].startswith("Towpath: ")
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_there_are_three_dashboards_with_names_of_their_own() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len(boards) == len({board["uid"] for board in boards}) == 3


@needs_promtool
@pytest.mark.parametrize("command", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]])
def test_prometheus_takes_the_rules_and_they_fire_as_their_tests_say(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FILES, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
