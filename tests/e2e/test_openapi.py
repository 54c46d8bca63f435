"""The server follows its OpenAPI document: the examples in it, and generated requests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from conftest import Server

KEY = "correct-horse-battery"
SEED = 7
EXAMPLES = 60
HOOKS = Path(__file__).with_name("openapi_hooks.py")
MODELS = "demo,demo-caption,demo-match"
TIMEOUT_S = 60
FORM = "multipart/form-data"


@pytest.fixture(scope="module")
def demo_models():
    """A server of the demo models."""
    server = Server("--fetch=false", "--model", MODELS)
    yield server
    server.stop()


def document_of(server):
    return requests.get(f"{server.http}/openapi.json", timeout=TIMEOUT_S).json()


def operations(document):
    """Yields method, path with the examples of its parameters, and the operation."""
    for template, item in document["paths"].items():
        for method, operation in item.items():
            path = template
            for parameter in operation.get("parameters", []):
                path = path.replace("{%s}" % parameter["name"], parameter["example"])
            assert "{" not in path, f"parameter without an example: {template}"
            yield method, path, operation


def contents(operation):
    """Returns the request bodies of an operation by media type."""
    return operation.get("requestBody", {}).get("content", {})


def test_every_example_succeeds_as_it_stands(start):
    # Examples load and unload models.
    server = start("--admin", "--fetch=false", "--model", MODELS)
    document = document_of(server)
    sent = 0
    # Unloading comes last, because other examples name the model.
    for method, path, operation in sorted(operations(document), key=lambda found: found[0] == "delete"):
        body = contents(operation).get("application/json", {})
        assert "example" in body or not contents(operation), f"operation without an example: {method} {path}"
        response = requests.request(method, server.http + path, json=body.get("example"), timeout=TIMEOUT_S)
        assert response.ok, f"{method} {path}: {response.text}"
        if "application/json" in response.headers.get("content-type", ""):
            assert "errors" not in response.json(), response.text
        documented = operation["responses"]["200" if method != "delete" else "204"]
        example = documented.get("content", {}).get("application/json", {}).get("example")
        assert example in (None, response.json() if example else None), f"{method} {path}"
        sent += 1
    assert sent > 15


def form_fields(document, operation, image):
    """Returns the fields that Swagger UI sends for the examples of a form, with empty ones."""
    content = contents(operation)[FORM]
    fields = [("image", ("image.png", image))]
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    for name, field in schema["properties"].items():
        if name == "image":
            continue
        if "$ref" in field:
            field = document["components"]["schemas"][field["$ref"].rpartition("/")[2]]
        # Swagger UI invents a value without an example, and wants a file for other media types.
        example = field["example"]
        assert "contentMediaType" not in field, name
        if isinstance(example, list):
            assert content["encoding"][name] == {"style": "form", "explode": True}
            fields += [(name, (None, value)) for value in example]
        else:
            # A field that is JSON is sent like a file.
            is_json = content.get("encoding", {}).get(name) == {"contentType": "application/json"}
            text = example if isinstance(example, str) else json.dumps(example)
            fields.append((name, ("blob" if is_json else None, text)))
    return fields


def test_every_form_succeeds_with_its_examples(demo_models, demo_image):
    server, document = demo_models, document_of(demo_models)
    forms = 0
    for method, path, operation in operations(document):
        if FORM in contents(operation):
            fields = form_fields(document, operation, demo_image)
            response = requests.request(method, server.http + path, files=fields, timeout=TIMEOUT_S)
            assert response.ok and "errors" not in response.json(), response.text
            forms += 1
    assert forms == 3


def test_every_error_of_a_response_has_an_example(demo_models):
    document = document_of(demo_models)
    schemas = document["components"]["schemas"]
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            reasons = [line.split("`")[1] for line in response["description"].split("\n\n")]
            documented = []
            for media_type, content in response["content"].items():
                required = schemas[content["schema"]["$ref"].rpartition("/")[2]]["required"]
                for name, reference in content["examples"].items():
                    example = document["components"]["examples"][reference["$ref"].rpartition("/")[2]]["value"]
                    assert set(required) <= set(example), f"{method} {path} {name}"
                    if media_type == "application/problem+json":
                        assert (example["reason"], example["status"]) == (name, int(status))
                    documented.append(name)
            assert sorted(documented) == sorted(reasons), f"{method} {path} {status}"


def test_generated_requests_are_answered_as_documented(start, tmp_path):
    # URLs are random, so that fetching is disabled. The API key may not change models.
    server = start("--auth-keys", KEY, "--fetch=false", "--admin", "--model", MODELS)
    command = [
        str(Path(sys.executable).with_name("st")),
        "run",
        f"{server.http}/openapi.json",
        "--checks",
        "all",
        "--seed",
        str(SEED),
        "--max-examples",
        str(EXAMPLES),
        "--header",
        f"authorization: Bearer {KEY}",
        "--continue-on-failure",
        "--request-timeout",
        "20",
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)}
    completed = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert completed.returncode == 0, completed.stdout[-6000:] + completed.stderr[-2000:]
    assert "generated" in completed.stdout and server.process.poll() is None
