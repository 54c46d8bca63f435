"""Several models in one server, and loading and unloading at run time."""

import json
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT
from test_metrics import Metrics

QUESTION = "how many circles are there?"
DEMO = ROOT / "models/demo"
BLIP, ADMIN = "blip.v1.BlipService", "blip.v1.AdminService"

KEYS = """
[[keys]]
name = "app"
key = "correct-horse"

[[keys]]
name = "operator"
key = "battery-staple"
admin = true
"""


@pytest.fixture
def folders(tmp_path):
    """A folder with two copies of the demo model."""
    for name in ("one", "two"):
        shutil.copytree(DEMO, tmp_path / "models" / name)
    return tmp_path / "models"


def answer(client, demo_image, model):
    """Returns the answer of a model."""
    request = client.request([(demo_image, [QUESTION])])
    request.model = model
    (response,) = client.method(BLIP, "Ask")(request)
    return response.answer.text


def models(client):
    """Returns the models by name."""
    listed = client.method(BLIP, "ListModels")(client.type("blip.v1.ListModelsRequest")())
    return {model.name: model for model in listed.models}


def http(server, path, key, method="GET", body=None):
    """Returns (status, JSON)."""
    headers = {"x-api-key": key, "content-type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{server.http}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_models_of_settings_file_have_separate_metrics(start, folders, demo_image, tmp_path):
    settings = tmp_path / "settings.toml"
    (tmp_path / "answers.txt").write_text("one\ntwo\nthree\n")
    settings.write_text(
        f'[candidate_lists]\nnumbers = "{tmp_path}/answers.txt"\n'
        f'[[models]]\nsource = "{folders}/one"\nmax_queued_questions = 77\n'
        f'[[models]]\nname = "second"\nsource = "{folders}/two"\ndtype = "bf16"\n'
    )
    server = start("--config", str(settings), "--self-test-idle-s", "0")
    client = server.client
    listed = models(client)
    assert list(listed) == ["one", "second"]
    assert (listed["one"].dtype, listed["second"].dtype) == ("f32", "bf16")
    assert list(listed["one"].candidate_lists) == ["numbers"]
    config = json.loads((DEMO / "config.json").read_text())
    assert listed["one"].image_size == config["vision_config"]["image_size"]
    answers = {name: answer(client, demo_image, name) for name in ("one", "second", "")}
    assert len(set(answers.values())) == 1
    error = client.error_of(lambda: answer(client, demo_image, "third"))
    assert (error.code, error.reason, error.metadata["limit"]) == (
        "NOT_FOUND",
        "MODEL_UNKNOWN",
        "one, second",
    )
    metrics = Metrics(server)
    assert metrics.value("blip_jobs_answered_total", model="one") == 2
    assert metrics.value("blip_jobs_answered_total", model="second") == 1
    assert (
        metrics.value("blip_engines_alive", model="one")
        == metrics.value("blip_engines_alive", model="second")
        == 1
    )
    assert metrics.value("blip_queue_limit_jobs", model="one") == 77
    assert metrics.value("blip_model_info", model="second", dtype="bf16") == 1


def test_admin_loads_replaces_and_unloads_models(start, folders, demo_image, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    server = start("--auth-keys-file", str(keys), "--admin", "--model-dir", str(folders), connect=False)
    app = server.connect(headers=[("x-api-key", "correct-horse")])
    operator = server.connect(headers=[("x-api-key", "battery-staple")])
    before = answer(app, demo_image, "demo")

    def load(client, name, source):
        request = client.type("blip.v1.LoadModelRequest")(name=name, source=source)
        return client.error_of(lambda: client.method(ADMIN, "LoadModel")(request))

    assert load(app, "copy", "one").reason == "ADMIN_REQUIRED"
    assert load(operator, "copy", str(tmp_path)).reason == "MODEL_SOURCE_REFUSED"
    assert load(operator, "copy", "../models").reason == "MODEL_SOURCE_REFUSED"
    assert load(operator, "copy", "one") is None
    assert load(operator, "demo", "two") is None
    assert {name: model.source for name, model in models(app).items()} == {"demo": "two", "copy": "one"}
    assert answer(app, demo_image, "demo") == answer(app, demo_image, "copy") == before
    (folders / "two/config.json").write_text("{}")
    assert load(operator, "demo", "two").reason == "MODEL_LOAD_FAILED"
    assert answer(app, demo_image, "demo") == before

    assert http(server, "/v1/models/demo", "correct-horse", "DELETE")[0] == 403
    sources = re.findall(r'blip_model_info{model="demo",source="([^"]*)"', Metrics(server).text)
    assert [Path(source).name for source in sources] == ["two"]
    assert http(server, "/v1/models/demo", "battery-staple", "DELETE")[0] == 204
    metrics = Metrics(server)
    gauges = set(re.findall(r"^# TYPE (\w+) gauge$", metrics.text, re.MULTILINE))
    unloaded, loaded = (
        {name for name, labels, _ in metrics.samples if f'model="{model}"' in (labels or "")} & gauges
        for model in ("demo", "copy")
    )
    assert unloaded == set() and {"blip_model_info", "blip_queue_jobs", "blip_engines_alive"} <= loaded
    status, listed = http(server, "/v1/models", "correct-horse")
    assert (status, [model["name"] for model in listed["models"]]) == (200, ["copy"])
    status, problem = http(server, "/v1/models/copy", "battery-staple", "DELETE")
    assert (status, problem["reason"]) == (409, "MODEL_LAST")
    assert answer(app, demo_image, "") == before


def test_admin_call_without_admin_option_is_rejected(start, demo_image):
    server = start()
    status, problem = http(server, "/v1/models", "", "POST", {"name": "copy", "source": "demo"})
    assert (status, problem["reason"]) == (501, "ADMIN_OFF")
    status, model = http(server, "/v1/models/demo", "")
    assert (status, model["name"], model["task"]) == (200, "demo", "question_answering")
