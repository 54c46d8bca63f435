"""What the real kubectl says of the rendered objects. Its validation against schemas asks a cluster for them; here it has its own types."""

import json
import subprocess

import pytest
import yaml
from conftest import VALUES, rendered


def kubectl(*command, objects):
    text = "---\n".join(yaml.safe_dump(each) for each in objects)
    done = subprocess.run(["kubectl", *command, "--local", "--filename", "-"], input=text, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def paths(value, at=""):
    """Every field that is set, by its path."""
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
        # It decodes into its own types, where a field that is misspelt or misplaced has no place and is gone.
        known = json.loads(kubectl("set", "env", "TESTED=yes", "--output", "json", objects=[workload]))
        lost = paths(workload) - paths(known)
        empty = {path for path in lost if "emptyDir" in path}
        assert lost == empty, lost
