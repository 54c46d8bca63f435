"""Alerts are valid and tested, and each has a section in the runbook."""

import re
import tomllib

import pytest
import yaml
from conftest import ROOT, RULES, rendered, tool

WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
RUNBOOK = f"{WORKSPACE['repository']}/blob/main/docs/operations/runbook.md"
TESTS = RULES.with_name("rules_test.yaml")
DOCUMENT = yaml.safe_load(RULES.read_text())
ALERTS = {rule["alert"]: rule for group in DOCUMENT["groups"] for rule in group["rules"] if "alert" in rule}


def test_promtool_accepts_rules():
    result = tool("promtool", "check", "rules", "--lint-fatal", RULES)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{sum(len(group['rules']) for group in DOCUMENT['groups'])} rules found" in result.stdout


def test_alerts_fire_only_in_their_conditions():
    result = tool("promtool", "test", "rules", TESTS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("constant", ["vector(0) > 1", "vector(1)"])
def test_rule_tests_detect_changed_alerts(constant, tmp_path):
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["expr"] = constant
    (tmp_path / RULES.name).write_text(yaml.safe_dump(document))
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    result = tool("promtool", "test", "rules", tmp_path / TESTS.name)
    assert result.returncode != 0
    detected = set(re.findall(r"alertname: ?(\w+)", result.stdout + result.stderr))
    assert detected == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_link_to_runbook_sections(alert):
    rule = ALERTS[alert]
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOK}#{alert.lower()}"
    assert f"\n## {alert}\n" in (ROOT / "docs/operations/runbook.md").read_text()
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_runbook_sections_have_alerts_and_valid_links():
    text = (ROOT / "docs/operations/runbook.md").read_text()
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert sections == list(ALERTS)
    assert set(re.findall(r"\(#(\w+)\)", text)) <= {name.lower() for name in sections}
    panels = (ROOT / "deploy/grafana/dashboard.json").read_text()
    for panel in re.findall(r'"([A-Z][^"\n]*)"', text):
        assert f'"title": "{panel}"' in panels, panel


def test_chart_rules_equal_prometheus_rules():
    assert rendered("gpu").one("PrometheusRule")["spec"] == DOCUMENT


def test_chart_rules_link_to_configured_runbook():
    document = rendered("extras").one("PrometheusRule")["spec"]
    rules = [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]
    urls = {rule["alert"]: rule["annotations"].pop("runbook_url") for rule in rules}
    assert urls == {name: f"https://wiki.example.com/blip-serve#{name.lower()}" for name in ALERTS}
    # The rest is unchanged.
    assert [rule["expr"] for rule in rules] == [rule["expr"] for rule in ALERTS.values()]
