"""The queries of dashboard, alerts and autoscalers read existing metrics."""

import json
import re

import pytest
import yaml
from conftest import ADAPTER_RULES, DASHBOARD, RULES, rendered
from metric_names import declared, read_by, series

# Metrics of the DCGM exporter and of kube-state-metrics, which cannot be checked.
FOREIGN = ("DCGM_FI_", "kube_pod_")


def panels():
    """Returns the panels of the dashboard, without rows."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def queries():
    """Yields (origin, query) of every query."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in json.loads(DASHBOARD.read_text())["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for trigger in rendered("gpu").one("ScaledObject")["spec"]["triggers"]:
        if trigger["type"] == "prometheus":
            yield "keda", trigger["metadata"]["query"]
    for rule in yaml.safe_load(ADAPTER_RULES.read_text())["rules"]["custom"]:
        yield "adapter", rule["seriesQuery"]


@pytest.mark.parametrize("origin, query", list(queries()))
def test_queries_use_existing_metrics(origin, query):
    read = read_by(query)
    assert read
    unknown = {name for name in read - series() if not name.startswith(FOREIGN)}
    assert not unknown, f"{origin} reads {unknown}"


def test_unknown_metric_in_query_is_detected():
    assert read_by('sum(rate(blip_jobs_done_total{a="blip_ready"}[5m]))') - series() == {
        "blip_jobs_done_total"
    }


def test_dashboard_shows_every_metric():
    shown = set().union(*(read_by(target["expr"]) for panel in panels() for target in panel["targets"]))
    missing = [
        name
        for name in declared()
        if not any(name == one or re.fullmatch(name + "_(bucket|sum|count)", one) for one in shown)
    ]
    assert missing == []


def test_panels_have_unique_ids_and_positions():
    all_panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    occupied = set()
    for panel in all_panels:
        position = panel["gridPos"]
        left, top = position["x"], position["y"]
        right, bottom = left + position["w"], top + position["h"]
        cells = {(x, y) for x in range(left, right) for y in range(top, bottom)}
        assert right <= 24 and not cells & occupied, panel["title"]
        occupied |= cells


def test_autoscaler_reads_metric_of_adapter():
    rules = yaml.safe_load(ADAPTER_RULES.read_text())["rules"]["custom"]
    names = {rule["name"]["as"] for rule in rules}
    metrics = rendered("tls").one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert {metric["pods"]["metric"]["name"] for metric in metrics} == names


def test_chart_dashboard_equals_grafana_dashboard():
    objects = rendered("gpu")
    assert json.loads(objects.of("ConfigMap", "-dashboard")["data"]["blip-serve.json"]) == json.loads(
        DASHBOARD.read_text()
    )
