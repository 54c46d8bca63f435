"""Validates an object by the types of KServe's resources that kserve and kubernetes have.

python kserve_objects.py < OBJECT.yaml

Unknown fields, other types and missing fields are errors.
"""

import re
import sys

import kserve
import kubernetes.client
import yaml

SCALARS = {"str": str, "int": int, "bool": bool, "float": float, "object": object}
KINDS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}


def check(condition, message):
    if not condition:
        raise SystemExit(message)


def parse(value, kind, path):
    """Returns a value as the type that a model names."""
    if found := re.fullmatch(r"(?i:list)[\[(](.+)[\])]", kind):
        check(isinstance(value, list), f"{path} is no list")
        return [parse(each, found[1], f"{path}[{index}]") for index, each in enumerate(value)]
    if found := re.fullmatch(r"(?i:dict)[\[(]str, (.+)[\])]", kind):
        check(isinstance(value, dict), f"{path} is no map")
        return {name: parse(each, found[1], f"{path}.{name}") for name, each in value.items()}
    if kind in SCALARS:
        check(kind == "object" or type(value) is SCALARS[kind], f"{path} is {value!r}, not of type {kind}")
        return value
    model = getattr(kserve, kind, None) or getattr(kubernetes.client, kind)
    check(isinstance(value, dict), f"{path} is no map")
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    unknown = value.keys() - attributes.keys()
    check(not unknown, f"{path} has unknown fields: {', '.join(sorted(unknown))}")
    fields = {
        attributes[name]: parse(each, model.openapi_types[attributes[name]], f"{path}.{name}")
        for name, each in value.items()
    }
    try:
        # The constructors check which fields are required.
        return model(**fields)
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error


contents = yaml.safe_load(sys.stdin)
parse(contents, KINDS[contents["apiVersion"], contents["kind"]], contents["kind"])
