"""kubectl decodes the rendered objects into its types. Schema validation would need a cluster."""

import json
import subprocess

import pytest
import yaml
from conftest import VALUES, rendered


def kubectl(*command, objects):
    """Runs kubectl on objects. Returns its output."""
    text = "---\n".join(yaml.safe_dump(each) for each in objects)
    command = ["kubectl", *command, "--local", "--filename", "-"]
    completed = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def paths(value, at=""):
    """Returns the path of every field."""
    if isinstance(value, dict):
        return {at}.union(*(paths(inner, f"{at}.{name}") for name, inner in value.items()))
    if isinstance(value, list):
        return {at}.union(*(paths(inner, f"{at}[{index}]") for index, inner in enumerate(value)))
    return {at}


@pytest.mark.parametrize("values", VALUES)
def test_kubectl_reads_every_object(values):
    objects = rendered(values).all
    names = kubectl("label", "tested=yes", "--output", "name", objects=objects).split()
    assert len(names) == len(objects)


@pytest.mark.parametrize("values", VALUES)
def test_kubectl_knows_every_field(values):
    for workload in [each for each in rendered(values).all if each["kind"] in ("Deployment", "Pod")]:
        # kubectl drops misspelt and misplaced fields when it decodes an object.
        known = json.loads(kubectl("set", "env", "TESTED=yes", "--output", "json", objects=[workload]))
        dropped = paths(workload) - paths(known)
        empty = {path for path in dropped if "emptyDir" in path}
        assert dropped == empty, dropped
