"""Values that the chart rejects, and its messages."""

import json
import os
import re

import pytest
import yaml
from conftest import CHART, HERE, ROOT, program, template, tool

OPEN = ("--set", "auth.insecure=true")
# Two routes with the same gateway.
ROUTES = ",".join(
    f"{kind}.enabled=true,{kind}.parentRefs[0].name=gateway" for kind in ("grpcRoute", "httpRoute")
)
# Settings that the chart sets from other values.
CHART_SETTINGS = {
    "model.source",
    "grpc.listen",
    "http.listen",
    "metrics.listen",
    "tls.cert_file",
    "tls.key_file",
    "tls.client_ca_file",
    "auth.keys",
    "auth.keys_file",
    "auth.insecure",
}


def test_unauthenticated_server_requires_explicit_value():
    result = template()
    assert result.returncode != 0
    assert "no authentication is configured" in result.stderr
    for remedy in ("auth.keys", "auth.existingSecret", "tls.clientCa", "auth.insecure"):
        assert remedy in result.stderr
    assert template(*OPEN).returncode == 0


@pytest.mark.parametrize(
    "settings, message",
    [
        ("tls.enabled=true", "tls.enabled requires a certificate"),
        ("tls.clientCa=true", "tls.clientCa requires tls.enabled"),
        ("tls.enabled=true,tls.existingSecret=x,probes.kind=grpc", "the kubelet has no TLS"),
        ("tls.enabled=true,tls.certManager.enabled=true", "tls.certManager.issuer.name"),
        ("hpa.enabled=true,keda.enabled=true", "enable one of them"),
        ("keda.enabled=true,keda.minReplicas=0", "keda.extraTriggers"),
        ("rollout.maxSurge=0", "at least one must be positive"),
        ("grpcRoute.enabled=true", "grpcRoute.parentRefs"),
        ("httpRoute.enabled=true", "httpRoute.parentRefs"),
        (f"{ROUTES},grpcRoute.hostnames={{a,b}},httpRoute.hostnames={{b}}", "different grpcRoute.hostnames"),
        (f"{ROUTES},grpcRoute.hostnames={{a}}", "different grpcRoute.hostnames"),
        ("extraVolumes[0].name=tls", "choose a name other than config, tmp, keys, tls, model"),
        ("extraContainers[0].name=blip-serve", "extraContainers has the name blip-serve"),
        ("model.source=/models/x", "set model.cache.kind"),
        ("model.cache.kind=image", "requires model.cache.image"),
        ("model.cache.kind=existingClaim", "requires model.cache.existingClaim"),
        ("model.prefetch.enabled=true", "model.prefetch requires a writable volume"),
        ("model.source=Salesforce/blip-vqa-base", "set model.cache.kind"),
        ("model.cache.kind=pvc,model.prefetch.enabled=true", "cannot download model.source=demo"),
        (
            "model.cache.kind=pvc,model.prefetch.enabled=true,model.source=/models/x",
            "cannot download model.source=/models/x",
        ),
        ("model.cache.kind=pvc,model.prefetch.enabled=true,model.prefetch.image=x", "must be set together"),
        ("auth.existingSecret=x,auth.keys[0].name=a,auth.keys[0].key=12345678-abc", "set one of them"),
    ],
)
def test_conflicting_values_are_rejected_with_reason(settings, message):
    result = template(*OPEN, "--set", settings)
    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.parametrize(
    "settings",
    [
        "grpcRoute.hostnames={a},httpRoute.hostnames={b}",
        "grpcRoute.parentRefs[0].sectionName=grpc,httpRoute.parentRefs[0].sectionName=http",
    ],
)
def test_routes_with_separate_names_or_listeners_are_accepted(settings):
    result = template(*OPEN, "--set", f"{ROUTES},{settings}")
    assert result.returncode == 0, result.stderr


def test_image_volume_requires_supported_kubernetes():
    image = ("--set", "model.cache.kind=image,model.cache.image=registry.example.com/blip:1")
    rejected = template(*OPEN, *image, "--kube-version", "1.32")
    assert rejected.returncode != 0 and "Kubernetes 1.33" in rejected.stderr
    assert template(*OPEN, *image, "--kube-version", "1.33").returncode == 0


@pytest.mark.parametrize(
    "setting, path",
    [
        ("replica=3", "replica"),
        ("replicas=-1", "/replicas"),
        ("config.scheduler.max_batch_question=3", "max_batch_question"),
        ("config.scheduler.max_queued_questions=many", "/config/scheduler/max_queued_questions"),
        ("config.grpc.listen=0.0.0.0:1", "listen"),
        ("config.auth.keys[0]=in-a-config-map", "keys"),
        ("config.batching.size=3", "batching"),
        ("config.drain=null", "drain"),
        ("gpu.resource=gpu", "/gpu/resource"),
        ("gpu.count=0", "/gpu/count"),
        ("ports.grpc=80", "/ports/grpc"),
        ("image.digest=latest", "/image/digest"),
        ("model.cache.kind=nfs", "/model/cache/kind"),
        ("probes.kind=tcp", "/probes/kind"),
        ("monitoring.runbookUrl=docs/operations/runbook.md", "/monitoring/runbookUrl"),
        ("envFrom[0].configMap.name=x", "configMap"),
        ("extraVolumeMounts[0].name=x", "mountPath"),
        ("lifecycle.preStart.sleep.seconds=5", "preStart"),
        ("ingress.hosts=blip.example.com", "/ingress/hosts"),
        ("auth.keys[0].name=short,auth.keys[0].key=1234567", "/auth/keys/0/key"),
        (
            "auth.keys[0].name=x,auth.keys[0].key=long-enough,auth.keys[0].priority=urgent",
            "/auth/keys/0/priority",
        ),
    ],
)
def test_invalid_values_are_rejected_by_schema(setting, path):
    result = template(*OPEN, "--set", setting)
    assert result.returncode != 0
    assert "schema" in result.stderr
    assert path in result.stderr.replace(".", "/") or path in result.stderr


def expected_type(name, value):
    """Returns the JSON Schema of a setting with this default."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, float):
        return {"type": "number", "minimum": 0, "maximum": 1}
    if isinstance(value, int):
        return {"type": "integer", "minimum": 0}
    if isinstance(value, list):
        return {"type": "array", "items": {"type": ["string", "integer"]}}
    return {"type": "string"} if isinstance(value, str) else {"type": ["string", "integer", "null"]}


def old_names():
    """Yields (old name, current name) of the renamed settings, each as (section, name)."""
    source = (ROOT / "crates/server/src/config/renamed.rs").read_text()
    row = r'\b(?:name|inverted)\("([a-z0-9_.]+)", "[a-z0-9-]+", "([a-z0-9_.]+)"\)'
    for old, new in re.findall(row, source):
        yield old.split("."), new.split(".")


def test_schema_lists_settings_of_program():
    """UPDATE_DOCS=1 rewrites the schema."""
    settings = json.loads(tool(program(), "config", "--json").stdout)
    sections = {}
    for section, entries in sorted(settings.items()):
        of_section = {
            name: expected_type(name, entry["value"])
            for name, entry in sorted(entries.items())
            if f"{section}.{name}" not in CHART_SETTINGS
        }
        if of_section:
            sections[section] = {"type": "object", "additionalProperties": False, "properties": of_section}
    sections["drain"]["required"] = ["grace_s", "limit_s"]
    renamed = list(old_names())
    assert renamed
    for (section, name), (new_section, new_name) in renamed:
        of_section = sections.setdefault(
            section, {"type": "object", "additionalProperties": False, "properties": {}}
        )
        current = sections[new_section]["properties"][new_name]
        of_section["properties"][name] = {**current, "deprecated": True}
    path = CHART / "values.schema.json"
    schema = json.loads(path.read_text())
    if os.environ.get("UPDATE_DOCS"):
        schema["properties"]["config"]["properties"] = sections
        path.write_text(json.dumps(schema, indent=2) + "\n")
    assert schema["properties"]["config"]["properties"] == sections


def test_schema_and_values_have_same_defaults():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]

    def compare(values, schema, path):
        named = set(schema) - {"global"}
        assert set(values) == named, path
        for name in named:
            below = schema[name].get("properties")
            if below and path + name not in ("config", "resources", "lifecycle"):
                compare(values[name], below, f"{path}{name}.")

    compare(values, schema, "")


def test_notes_show_address_and_warnings():
    def notes(*arguments):
        result = tool(
            "helm", "install", "shop", CHART, "--namespace", "vision", "--dry-run=client", *arguments
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.split("NOTES:")[1]

    text = notes(*OPEN)
    assert "http://shop-blip-serve.vision.svc:50051" in text
    assert "Every client that reaches these ports is admitted" in text and "demo model" in text
    assert "Outside of the cluster" not in text
    text = notes("--values", HERE / "values/tls.yaml")
    assert "\n  gRPC   blip.example.com\n  HTTP   http.blip.example.com\n" in text
    text = notes("--values", HERE / "values/extras.yaml")
    assert "\n  HTTP   every name of the gateway\n  HTTP   blip.example.com, vqa.example.com\n" in text
    text = notes("--values", HERE / "values/client_certificates.yaml")
    assert "https://shop-blip-serve.vision.svc:50051" in text
    assert "WARNING" not in text and "No helm test is installed" in text
