"""The tasks of Hugging Face's API, with huggingface_hub and @huggingface/inference."""

import base64
import json
import math
import os
import subprocess
from pathlib import Path

import pytest
from conftest import COUNT, KEY, TEXTS, TIMEOUT_S
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

TEMPLATE = "{}"
SCRIPT = Path(__file__).with_name("node") / "tasks.mjs"


def connect(server, path="", token="none"):
    return InferenceClient(model=f"{server.http}{path}", token=token, timeout=TIMEOUT_S)


@pytest.fixture(scope="session")
def client(demo):
    return connect(demo)


def test_question_has_the_answer_of_ask(client, native, demo_image):
    [(answer, details)] = native.ask(COUNT)
    [found] = client.visual_question_answering(demo_image, COUNT)
    assert found.answer == answer and found.score == pytest.approx(math.exp(details["score"]), abs=1e-4)
    assert 0 < found.score <= 1


def test_several_answers_are_best_first(client, native, demo_image):
    [(answer, details)] = native.ask(COUNT, generation={"num_answers": 3, "length_penalty": 0.0})
    found = client.visual_question_answering(demo_image, COUNT, top_k=3)
    assert [each.answer for each in found] == [answer, *(other["text"] for other in details["alternatives"])]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_image_file_is_captioned(client, demo, native, demo_image, tmp_path):
    [caption] = native.caption()
    assert client.image_to_text(demo_image).generated_text == caption
    file = tmp_path / "image.png"
    file.write_bytes(demo_image)
    for path in ("/models/demo-caption", "/hf/image-to-text"):
        assert connect(demo, path).image_to_text(str(file)).generated_text == caption


@pytest.mark.parametrize("path", ["", "/models/demo-match", "/hf/zero-shot-image-classification"])
def test_labels_have_the_probability_of_match(demo, native, demo_image, path):
    expected = {text: scores["probability"] for text, scores in zip(TEXTS, native.match(*TEXTS))}
    found = connect(demo, path).zero_shot_image_classification(
        demo_image, TEXTS, hypothesis_template=TEMPLATE
    )
    assert [each.label for each in found] == sorted(expected, key=expected.get, reverse=True)
    for each in found:
        assert each.score == pytest.approx(expected[each.label], abs=1e-4) and 0 <= each.score <= 1


def test_default_template_is_that_of_transformers(client, native, demo_image):
    texts = [f"This is a photo of {label}." for label in TEXTS[:2]]
    expected = [scores["probability"] for scores in native.match(*texts)]
    found = {
        each.label: each.score for each in client.zero_shot_image_classification(demo_image, TEXTS[:2])
    }
    assert [found[label] for label in TEXTS[:2]] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("path", ["", "/models/demo-match", "/hf/feature-extraction"])
def test_texts_have_their_embeddings(demo, native, path):
    expected = native.embed(*TEXTS)["texts"]
    client = connect(demo, path)
    features = client.feature_extraction(TEXTS, normalize=True)
    assert features.shape == (len(TEXTS), len(expected[0]))
    for vector, values in zip(features, expected):
        assert list(vector) == pytest.approx(values, abs=1e-5)
    assert list(client.feature_extraction(TEXTS[0])[0]) == pytest.approx(expected[0], abs=1e-5)


def test_chat_of_the_hub_client_is_answered(client, native, data_url):
    [(answer, _)] = native.ask(COUNT)
    content = [{"type": "text", "text": COUNT}, {"type": "image_url", "image_url": {"url": data_url}}]
    messages = [{"role": "user", "content": content}]
    assert client.chat_completion(messages, max_tokens=9).choices[0].message.content == answer
    chunks = client.chat_completion(messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer


def test_caption_parameters_select_the_caption(client, demo, native, demo_image):
    image = base64.b64encode(demo_image).decode()
    body = {"inputs": image, "parameters": {"max_new_tokens": 40}}
    assert demo.post("/", json=body).json() == [{"generated_text": native.caption()[0]}]
    # An image is not embedded as a text.
    refused = demo.post("/models/demo-match", json=body)
    expected = "parameters.max_new_tokens is invalid: feature-extraction does not use it"
    assert (refused.status_code, refused.json()) == (400, {"error": expected})


def test_option_of_the_model_has_the_name_of_its_parameter(demo, demo_image):
    image = base64.b64encode(demo_image).decode()
    for parameters, field in (
        ({"top_k": 99}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"generation_parameters": {"num_beams": 99}}, "generation_parameters.num_beams"),
    ):
        response = demo.post("/", json={"inputs": image, "question": COUNT, "parameters": parameters})
        assert response.status_code == 400
        assert response.json()["error"].startswith(f"parameters.{field} out of range")


def test_errors_have_status_and_text(demo, client, start, demo_image):
    for call, status, text in (
        (lambda: client.visual_question_answering(demo_image, " "), 400, "question has no text"),
        (lambda: client.visual_question_answering(b"no image", COUNT), 415, "cannot decode inputs"),
        (lambda: client.visual_question_answering(demo_image, COUNT, top_k=99), 400, "parameters.top_k out of range"),
        (lambda: client.feature_extraction(["a", ""]), 400, "inputs[1] has no text"),
        (lambda: client.feature_extraction("a", normalize=False), 400, "normalize is invalid"),
        (lambda: connect(demo, "/models/nope").image_to_text(demo_image), 404, "unknown model"),
        (lambda: connect(demo, "/models/demo").image_to_text(demo_image), 400, "does not support the task"),
        (lambda: connect(demo, "/hf/summarization").image_to_text(demo_image), 404, "unknown route"),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            call()
        assert error.value.response.status_code == status and text in str(error.value), error.value
    locked = start("--auth-keys", KEY)
    with pytest.raises(HfHubHTTPError) as error:
        connect(locked, token="wrong").visual_question_answering(demo_image, COUNT)
    assert error.value.response.status_code == 401 and "unknown api key" in str(error.value)
    assert connect(locked, token=KEY).visual_question_answering(demo_image, COUNT)[0].answer == "5"


def test_hostile_requests_have_bounded_errors(demo, demo_image):
    image = "A" * 1_000_000
    for body in (
        b'{"inputs":' + b"[" * 100_000,
        json.dumps({"inputs": image, "question": "q" * 1_000_000}).encode(),
        json.dumps({"inputs": image + "*", "question": COUNT}).encode(),
        json.dumps({"inputs": "", "parameters": {"candidate_labels": ["a"] * 60_000, "hypothesis_template": "{}" * 9000}}).encode(),
        json.dumps({"inputs": "", "parameters": {"candidate_labels": ["a"] * 5000}}).encode(),
        json.dumps({"inputs": {"question": 5}}).encode(),
        b'{"inputs":[' + b"{}," * 200_000 + b"{}]}",
    ):
        response = demo.post("/", data=body, headers={"content-type": "application/json"})
        assert 400 <= response.status_code < 500 and len(response.content) < 1000, response.text[:2000]
        assert list(response.json()) == ["error"]
    empty = demo.post("/")
    assert (empty.status_code, empty.json()) == (400, {"error": "inputs is empty"})
    assert demo.get("/").headers["content-type"] == "text/html; charset=utf-8"


def test_javascript_client_gets_the_same_results(demo, native, start, demo_image, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(demo_image)
    command = ["node", str(SCRIPT), demo.http, str(file), COUNT, *TEXTS]
    environment = {**os.environ, "NODE_PATH": os.environ["BLIP_NODE_MODULES"]}
    completed = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=True
    )
    results = json.loads(completed.stdout)
    [(answer, details)] = native.ask(COUNT)
    assert results["answer"]["answer"] == answer
    assert results["answer"]["score"] == pytest.approx(math.exp(details["score"]), abs=1e-4)
    assert results["caption"] == {"generated_text": native.caption()[0]}
    expected = {text: scores["probability"] for text, scores in zip(TEXTS, native.match(*TEXTS))}
    assert {each["label"]: each["score"] for each in results["labels"]} == pytest.approx(expected, abs=1e-4)
    assert results["features"][0] == pytest.approx(native.embed(*TEXTS)["texts"][0], abs=1e-5)
    assert results["chat"] == answer
    assert "question has no text" in results["error"]
