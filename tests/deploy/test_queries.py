"""Every query of dashboard, alerts and scalers reads metrics that exist."""

import json
import re

import pytest
import yaml
from conftest import DASHBOARD, ROOT, RULES, rendered
from metric_names import declared, read_by, series

# Those of DCGM's exporter and of kube-state-metrics, which are not here to ask.
FOREIGN = ("DCGM_FI_", "kube_pod_")


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def queries():
    """(where, query) of everything that asks Prometheus."""
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
    for rule in yaml.safe_load((ROOT / "deploy/prometheus/adapter-rules.yaml").read_text())["rules"]["custom"]:
        yield "adapter", rule["seriesQuery"]


@pytest.mark.parametrize("where, query", list(queries()))
def test_queries_use_existing_metrics(where, query):
    read = read_by(query)
    assert read
    unknown = {name for name in read - series() if not name.startswith(FOREIGN)}
    assert not unknown, f"{where} reads {unknown}"


def test_unknown_metric_in_query_is_detected():
    assert read_by('sum(rate(blip_jobs_done_total{a="blip_ready"}[5m]))') - series() == {"blip_jobs_done_total"}


def test_dashboard_shows_every_metric():
    shown = set().union(*(read_by(target["expr"]) for panel in panels() for target in panel["targets"]))
    missing = [name for name in declared() if not any(name == one or re.fullmatch(name + "_(bucket|sum|count)", one) for one in shown)]
    assert missing == []


def test_panels_have_unique_ids_and_positions():
    all_panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    taken = set()
    for panel in all_panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_autoscaler_reads_metric_of_adapter():
    made = {rule["name"]["as"] for rule in yaml.safe_load((ROOT / "deploy/prometheus/adapter-rules.yaml").read_text())["rules"]["custom"]}
    metrics = rendered("tls").one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert {metric["pods"]["metric"]["name"] for metric in metrics} == made


def test_chart_dashboard_equals_grafana_dashboard():
    objects = rendered("gpu")
    assert json.loads(objects.of("ConfigMap", "-dashboard")["data"]["blip-serve.json"]) == json.loads(DASHBOARD.read_text())
