"""The objects of deploy/kserve are valid for KServe, by the types that its Python package has."""

import copy
import os
import re
import subprocess
import tomllib

import kserve
import kubernetes.client
import pytest
import yaml
from conftest import ROOT

SCALARS = {"str": str, "int": int, "bool": bool, "float": float, "object": object}
KINDS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]


def document(name):
    return yaml.safe_load((ROOT / f"deploy/kserve/{name}.yaml").read_text())


def parse(value, kind, path):
    """Returns a value as the type that a model names. Unknown fields and other types are errors.

    The constructors of the models check which fields are required.
    """
    if found := re.fullmatch(r"(?i:list)[\[(](.+)[\])]", kind):
        assert isinstance(value, list), f"{path} is no list"
        return [parse(each, found[1], f"{path}[{index}]") for index, each in enumerate(value)]
    if found := re.fullmatch(r"(?i:dict)[\[(]str, (.+)[\])]", kind):
        assert isinstance(value, dict), f"{path} is no map"
        return {name: parse(each, found[1], f"{path}.{name}") for name, each in value.items()}
    if kind in SCALARS:
        assert type(value) is SCALARS[kind] or kind == "object", f"{path} is {value!r}, not of type {kind}"
        return value
    model = getattr(kserve, kind, None) or getattr(kubernetes.client, kind)
    assert isinstance(value, dict), f"{path} is no map"
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    unknown = value.keys() - attributes.keys()
    assert not unknown, f"{path} has unknown fields: {', '.join(sorted(unknown))}"
    fields = {
        attributes[name]: parse(each, model.openapi_types[attributes[name]], f"{path}.{name}")
        for name, each in value.items()
    }
    return model(**fields)


def validate(contents):
    """Returns the object of KServe's package."""
    return parse(contents, KINDS[contents["apiVersion"], contents["kind"]], contents["kind"])


def test_serving_runtime_is_valid():
    runtime = validate(document("serving-runtime"))
    assert runtime.spec.supported_model_formats[0].auto_select is True
    assert runtime.spec.containers[0].startup_probe.http_get.path == "/v2/health/ready"


def test_inference_service_selects_the_runtime():
    runtime, service = validate(document("serving-runtime")), validate(document("inference-service"))
    model, (known,) = service.spec.predictor.model, runtime.spec.supported_model_formats
    assert model.runtime == runtime.metadata.name
    assert (model.model_format.name, model.model_format.version) == (known.name, known.version)
    assert model.protocol_version in runtime.spec.protocol_versions


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

    with pytest.raises(AssertionError, match=re.escape(message)):
        validate(merge(copy.deepcopy(document(name)), change))


def test_runtime_without_containers_is_detected():
    contents = document("serving-runtime")
    del contents["spec"]["containers"]
    with pytest.raises(ValueError, match="containers"):
        validate(contents)


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
