"""The rendered objects are valid for Kubernetes."""

import functools

import kubernetes_validate
import pytest
from conftest import CHART, HERE, VALUES, rendered, tool
from kubernetes_validate import utils

# From the first version with image volumes enabled by default to the newest one with schemas.
VERSIONS = ("1.33", "1.35", "1.37")
CUSTOM = {"ScaledObject", "GRPCRoute", "HTTPRoute", "ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate"}

# Without the cache, the library parses megabytes of schema for each object.
utils.schema_contents = functools.cache(utils.schema_contents)


@pytest.mark.parametrize("values", VALUES)
def test_helm_lint_accepts_chart(values):
    result = tool("helm", "lint", "--strict", CHART, "--values", HERE / f"values/{values}.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[WARNING]" not in result.stdout and "[ERROR]" not in result.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", VALUES)
def test_objects_match_schemas_of_three_versions(values, version):
    checked = 0
    for each in rendered(values, "--kube-version", version).all:
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, version, strict=True)
            checked += 1
    assert checked >= 4


def test_unknown_field_is_detected():
    deployment = dict(rendered("minimal").one("Deployment"), replicas=2)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


@pytest.mark.parametrize("values", VALUES)
def test_object_names_are_unique_dns_labels(values):
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered(values).all]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


@pytest.mark.parametrize("values", VALUES)
def test_selectors_match_deployment_pods_only(values):
    objects = rendered(values)
    labels = objects.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [each["spec"]["selector"] for each in objects.of("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in objects.of("PodDisruptionBudget")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in objects.of("NetworkPolicy")]
    assert selectors
    for selector in selectors:
        assert selector.items() <= labels
        for test in objects.of("Pod"):
            assert not selector.items() <= test["metadata"]["labels"].items()


@pytest.mark.parametrize("values", VALUES)
def test_pod_references_resolve(values):
    pods = [rendered(values).pod, *(each["spec"] for each in rendered(values).of("Pod"))]
    for pod in pods:
        volumes = [volume["name"] for volume in pod.get("volumes", [])]
        assert len(volumes) == len(set(volumes))
        containers = pod["containers"] + pod.get("initContainers", [])
        used = {mount["name"] for each in containers for mount in each.get("volumeMounts", [])}
        assert used == set(volumes)
