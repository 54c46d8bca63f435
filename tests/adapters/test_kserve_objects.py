"""The objects of deploy/kserve are valid for KServe, by the types that its Python package has."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TIMEOUT_S

VALIDATE = Path(__file__).with_name("kserve_objects.py")

WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]


def document(name):
    return yaml.safe_load((ROOT / f"deploy/kserve/{name}.yaml").read_text())


def error_of(contents):
    """Returns why an object is invalid, or an empty text.

    kserve and tritonclient define the same messages, so that one process cannot import both.
    """
    command = [sys.executable, str(VALIDATE)]
    completed = subprocess.run(
        command, input=yaml.safe_dump(contents), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (completed.returncode != 0) == bool(completed.stderr)
    return completed.stderr


@pytest.mark.parametrize("name", ["serving-runtime", "inference-service"])
def test_object_is_valid(name):
    assert error_of(document(name)) == ""


def test_inference_service_selects_the_runtime():
    runtime, service = document("serving-runtime"), document("inference-service")
    model, (known,) = service["spec"]["predictor"]["model"], runtime["spec"]["supportedModelFormats"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] == {"name": known["name"], "version": known["version"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("serving-runtime", {"spec": {"supportedModelFormat": []}}, "unknown fields: supportedModelFormat"),
        ("serving-runtime", {"spec": {"multiModel": "false"}}, "multiModel is 'false'"),
        ("serving-runtime", {"spec": {"containers": None}}, "containers is no list"),
        ("inference-service", {"spec": {"predictor": {"model": {"modelFormat": "blip"}}}}, "modelFormat is no map"),
        ("inference-service", {"spec": {"predictor": {"minReplica": 1}}}, "unknown fields: minReplica"),
    ],
)
def test_invalid_objects_are_detected(name, change, message):
    def merge(value, change):
        for key, each in change.items():
            value[key] = merge(value.get(key, {}), each) if isinstance(each, dict) else each
        return value

    assert message in error_of(merge(document(name), change))


def test_runtime_without_containers_is_detected():
    contents = document("serving-runtime")
    del contents["spec"]["containers"]
    assert "`containers`, must not be `None`" in error_of(contents)


def test_runtime_has_released_image():
    (container,) = document("serving-runtime")["spec"]["containers"]
    repository = WORKSPACE["repository"].removeprefix("https://github.com/")
    assert container["image"] == f"ghcr.io/{repository}:{WORKSPACE['version']}-cpu"


def test_program_accepts_the_arguments_of_the_runtime():
    (container,) = document("serving-runtime")["spec"]["containers"]
    command, *arguments = container["args"]
    # KServe replaces the name. The folder is a mount of the pod.
    arguments = [argument.replace("{{.Name}}=/mnt/models", "vqa=demo") for argument in arguments]
    assert command == "serve"
    listed = subprocess.run(
        [os.environ["BLIP_SERVE_BIN"], "config", *arguments], capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0, listed.stderr
    ports = [re.search(r"http-listen=\S+:(\d+)", argument) for argument in arguments]
    (port,) = [int(found[1]) for found in ports if found]
    assert [each["containerPort"] for each in container["ports"]] == [port]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port
