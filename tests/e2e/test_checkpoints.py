"""Files of models: odd ones are read as `transformers` reads them, hostile ones are errors."""

import json
import os
import shutil
import threading

import pytest
from conftest import GOLDENS, ROOT
from test_formats import GOLDEN, answers, assert_same

DEMO = ROOT / "models/demo"
ADMIN = "blip.v1.AdminService"
QUESTION = "how many circles are there?"


@pytest.fixture
def model(tmp_path):
    """A folder with a copy of the demo model, below a folder of models."""
    return shutil.copytree(DEMO, tmp_path / "models/mine")


@pytest.fixture
def administrator(start, model):
    """A server that loads models from the folder of models."""
    return start("--admin", "--model-dir", str(model.parent))


def load(server, source="mine"):
    """Loads a model. Returns the error or None."""
    client = server.client
    request = client.type("blip.v1.LoadModelRequest")(name="mine", source=source)
    return client.error_of(lambda: client.method(ADMIN, "LoadModel")(request))


def assert_answers(server, demo_image):
    assert server.client.outcomes([(demo_image, [QUESTION])])[0, 0].text


def endless(file):
    file.symlink_to("/dev/zero")


def sparse(file):
    with open(file, "wb") as opened:
        opened.truncate(1 << 30)


def outside(file):
    secret = file.parents[2] / "secret"
    secret.write_text("{}")
    file.symlink_to(secret)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors"]
)
@pytest.mark.parametrize("replace", [endless, os.mkfifo, outside, sparse])
def test_hostile_file_is_an_error_of_its_load(administrator, model, demo_image, name, replace):
    (model / name).unlink()
    replace(model / name)
    idle = administrator.peak_memory_bytes()
    error = load(administrator)
    assert (error.reason, name in error.message) == ("MODEL_LOAD_FAILED", True), error
    assert administrator.peak_memory_bytes() - idle < 100 << 20
    assert_answers(administrator, demo_image)


def test_weights_that_change_while_loaded_never_end_the_server(administrator, model, demo_image):
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    stopped = threading.Event()

    def change():
        while not stopped.is_set():
            for length in (len(content) // 2, 0, len(content)):
                with open(weights, "r+b") as file:
                    file.truncate(length)
            weights.write_bytes(content)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        errors = [load(administrator) for _ in range(20)]
    finally:
        stopped.set()
        changer.join()
    assert {error.reason for error in errors if error} <= {"MODEL_LOAD_FAILED"}
    assert_answers(administrator, demo_image)
    assert load(administrator) is None


def test_processor_config_replaces_preprocessor_config(start, demo_image, tmp_path):
    folder = shutil.copytree(GOLDEN, tmp_path / "model")
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": preprocessor}))
    expected = answers(start("--model", str(GOLDEN)), demo_image)
    assert_same(answers(start("--model", str(folder)), demo_image), expected)


def test_generation_config_gives_the_defaults_of_requests(start, demo_image, tmp_path):
    plain = GOLDENS / "thirty_by_six"
    folder = shutil.copytree(plain, tmp_path / "model")
    options = {"num_beams": 3, "repetition_penalty": 1.5, "max_length": 9999}
    (folder / "generation_config.json").write_text(json.dumps(options))
    of_file, without = start("--model", str(folder)).client, start("--model", str(plain)).client

    def ask(client, **options):
        request = client.request([(demo_image, ["what is on the table?"])])
        for name, value in options.items():
            setattr(request.generation, name, value)
        (response,) = client.method("blip.v1.BlipService", "Ask")(request)
        return list(response.answer.token_ids), pytest.approx(response.answer.score, abs=1e-4)

    beams = ask(without, num_beams=3, repetition_penalty=1.5, max_new_tokens=100)
    assert ask(of_file, max_new_tokens=100) == beams != ask(without, max_new_tokens=100)
