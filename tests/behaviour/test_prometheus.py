"""The alert rules and the dashboard, with a real Prometheus that scrapes real servers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import postgres
from support.engines import database
from support.native_server import NativeServer, native_server
from support.prometheus import Prometheus, promtool
from support.server_process import ATTRIBUTE

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
PAGE = ROOT / "docs" / "howto" / "monitor.md"
METRICS = ROOT / "docs" / "reference" / "metrics.md"
TOKEN = "a-token-for-metrics-only"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "usertable.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}


@dataclass
class UsedServers:
    """A Prometheus and the servers that it scrapes."""

    prometheus: Prometheus
    use: Callable[[], None]

    def see_to_rates(self) -> None:
        """Send requests unless some were sent recently: a minute without requests has no quantiles."""
        growth = f'increase(usertable_http_requests_total{{route="{ATTRIBUTE}", code="200"}}[20s])'
        if len(self.prometheus.query(f"{growth} > 0")) < 2:
            # Rates need a change between two scrapes.
            self.use()
            self.prometheus.wait_for(f"count({growth} > 0) == 2")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsedServers]:
    """A Prometheus that scrapes a server on SQLite and one with two workers on PostgreSQL, after some requests."""
    folder = tmp_path_factory.mktemp("prometheus")
    for name in ("sqlite", "postgresql"):
        (folder / name).mkdir()
    with (
        database(postgres.NEWEST) as url,
        native_server(folder / "sqlite", metrics_token=TOKEN) as first,
        native_server(folder / "postgresql", url, workers="2", metrics_token=TOKEN) as second,
    ):
        servers = (first, second)
        projects: list[Any] = []

        def use_all() -> None:
            for server, project in zip(servers, projects, strict=True):
                use(server, project)

        started = Prometheus(folder, [s.url.removeprefix("http://") for s in servers], ALERTS, TOKEN)
        try:
            projects += [use(server) for server in servers]
            started.wait_for(f'count(usertable_http_requests_total{{route="{ATTRIBUTE}", code="200"}}) == 2')
            yield UsedServers(started, use_all)
        finally:
            started.close()


def use(server: NativeServer, project: Any = None) -> Any:
    """Send requests for every metric."""
    path, http = project or server.new_project()
    http.post(f"{path}/attributes", json={"name": "age", "type": "NUMBER", "rule": "overwrite"})
    http.post(f"{path}/users", json={"cuid": 5})
    for age in range(30):
        assert http.put(ATTRIBUTE, json={"cuid": 5, "data": {"age": age}}).status_code == 200
    http.put(ATTRIBUTE, json={"cuid": 5, "data": {"height": 1}})
    http.post(f"{path}/users:batch", json={"records": [{"cuid": 5, "data": {"age": 1}}]})
    return path, http


def test_the_rules_are_sound_and_each_fires_when_it_should() -> None:
    assert promtool("check", "rules", str(ALERTS)) == ""
    assert promtool("test", "rules", str(ALERTS.with_name("alerts_test.yaml"))) == ""


def test_every_alert_is_tested_and_explained_and_leads_to_its_explanation() -> None:
    text = ALERTS.read_text()
    names = re.findall(r"- alert: (\w+)", text)
    tested = re.findall(r'alertname="(\w+)"', ALERTS.with_name("alerts_test.yaml").read_text())
    explained = re.findall(r"^### (Usertable\w+)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(tested) == sorted(names)
    assert sorted(explained) == sorted(names)
    assert re.findall(r"runbook: docs/howto/monitor.md#(\w+)", text) == [name.lower() for name in names]


@pytest.mark.parametrize("source", [ALERTS, ROOT / "deploy" / "grafana" / "usertable.json"], ids=lambda path: path.name)
def test_no_metric_is_asked_for_that_is_not_served(source: Path) -> None:
    served = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", METRICS.read_text(), re.MULTILINE))
    asked = set(re.findall(r"\b(?:usertable|process)_\w+", source.read_text()))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= served


def test_a_real_prometheus_loads_the_rules_and_nothing_fires(used: UsedServers) -> None:
    assert len(used.prometheus.wait_for('up{job="usertable"} == 1')) == 2
    states = used.prometheus.alerts()
    assert len(states) == len(re.findall(r"- alert:", ALERTS.read_text()))
    assert "firing" not in states.values()


@pytest.mark.parametrize("title", PANELS)
def test_each_panel_of_the_dashboard_has_an_answer(used: UsedServers, title: str) -> None:
    used.see_to_rates()
    for target in PANELS[title]["targets"]:
        expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        found = used.prometheus.wait_for(expression)
        assert not any(math.isnan(float(series["value"][1])) for series in found), (expression, found)
        # What the legend names is there. A parent of workers has no number.
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert any(label in series["metric"] for series in found), (expression, label, found)
