"""Attention maps: where the model looked for an answer, over gRPC and HTTP.

They are compared with those of `transformers`, which `generate/goldens_attention.py` writes.
"""

import array
import base64
import json
import math

import pytest
import requests
from conftest import ROOT

BLIP = "blip.v1.BlipService"
TIMEOUT_S = 60
TOLERANCE = 1e-4
# The questions of the golden file, in its order.
QUESTIONS = (
    "what color is the triangle?",
    "what shape is red?",
    "how many stars are in the picture?",
    "is there a gray rectangle?",
    "what is in the picture?",
)


@pytest.fixture(scope="module")
def expected():
    """The weights of the reference for each question about the demo image."""
    content = (ROOT / "crates/blip/tests/attention/demo.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    maps = []
    for index in range(len(QUESTIONS)):
        start, end = header[f"map{index}.weights"]["data_offsets"]
        maps.append(list(array.array("f", content[8 + length + start : 8 + length + end])))
    return dict(zip(QUESTIONS, maps, strict=True))


def request(client, image, questions=QUESTIONS, explain=True, **fields):
    """Returns a request for answers with maps."""
    made = client.request([(image, questions)])
    made.explain = explain
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def answers(client, made, method="Ask"):
    """Returns the answers to a request by question index."""
    call = client.method(BLIP, method)
    responses = call(iter([made]) if method == "AskStream" else made, timeout=TIMEOUT_S)
    return {response.question_index: response.answer for response in responses}


def check_map(attention, expected):
    """Checks the map of an answer over gRPC."""
    check(attention.rows, attention.columns, list(attention.weights), expected)


def check(rows, columns, weights, expected):
    assert (rows, columns, len(weights)) == (8, 8, 64)
    assert math.fsum(weights) == pytest.approx(1, abs=TOLERANCE) and min(weights) >= 0
    assert weights == pytest.approx(expected, abs=TOLERANCE * max(expected))


@pytest.mark.parametrize("method", ["Ask", "AskStream"])
def test_attention_maps_equal_the_reference(demo, demo_image, expected, method):
    explained = answers(demo.client, request(demo.client, demo_image), method)
    plain = answers(demo.client, request(demo.client, demo_image, explain=False), method)
    assert len(explained) == len(plain) == len(QUESTIONS)
    for index, question in enumerate(QUESTIONS):
        answer = explained[index]
        check_map(answer.attention, expected[question])
        assert not plain[index].HasField("attention")
        assert (answer.text, answer.token_ids) == (plain[index].text, plain[index].token_ids)


def test_only_the_best_of_several_answers_has_a_map(demo, demo_image, expected):
    made = request(demo.client, demo_image, QUESTIONS[:1])
    made.generation.num_beams = made.generation.num_answers = 3
    [answer] = answers(demo.client, made).values()
    assert answer.text == "red" and len(answer.alternatives) == 2
    check_map(answer.attention, expected[QUESTIONS[0]])


def test_candidate_has_the_map_of_the_same_generated_answer(demo, demo_image, expected):
    made = request(demo.client, demo_image, QUESTIONS[:1])
    made.inputs[0].questions[0].candidates.extend(["green", "red"])
    [answer] = answers(demo.client, made).values()
    assert answer.candidate_index == 1
    check_map(answer.attention, expected[QUESTIONS[0]])


def test_http_answers_have_attention_in_their_details(demo, demo_image, expected):
    image = {"base64": base64.b64encode(demo_image).decode()}
    payload = {"inputs": {"images": [image], "texts": [list(QUESTIONS)]}}
    post = lambda **fields: requests.post(f"{demo.http}/v1/ask", timeout=TIMEOUT_S, **fields)

    [plain] = post(json={**payload, "details": True}).json()["captions"]
    assert all("attention" not in details for details in plain["details"])
    [explained] = post(json={**payload, "explain": True}).json()["captions"]
    assert explained["image_results"] == plain["image_results"]
    for question, details in zip(QUESTIONS, explained["details"], strict=True):
        check(expected=expected[question], **details["attention"])

    parts = [("image", demo_image), ("explain", b"true"), ("question", QUESTIONS[1].encode())]
    form = post(files=[(name, (None, part)) for name, part in parts]).json()
    check(expected=expected[QUESTIONS[1]], **form["captions"][0]["details"][0]["attention"])

    events = post(json={**payload, "explain": True, "stream": True}).text.split("\n\n")
    data = [json.loads(event.partition("data: ")[2]) for event in events if event.startswith("event: answer")]
    assert len(data) == len(QUESTIONS)
    for event in data:
        check(expected=expected[QUESTIONS[event["question"]]], **event["details"]["attention"])


def test_other_tasks_have_no_field_explain(demo, demo_image):
    image = {"base64": base64.b64encode(demo_image).decode()}
    for path, inputs in [("caption", {"images": [image]}), ("match", {"images": [image], "texts": [["a"]]})]:
        payload = {"inputs": inputs, "explain": True}
        response = requests.post(f"{demo.http}/v1/{path}", json=payload, timeout=TIMEOUT_S)
        assert response.status_code == 400 and "unknown field `explain`" in response.json()["detail"]
        parts = [("image", demo_image), ("explain", b"true")]
        response = requests.post(
            f"{demo.http}/v1/{path}", files=[(name, (None, part)) for name, part in parts], timeout=TIMEOUT_S
        )
        assert (response.status_code, response.json()["reason"]) == (400, "PAYLOAD_INVALID")


def test_answer_cache_separates_explained_answers(start, demo_image, expected):
    server = start(cache_answers=True)
    question = QUESTIONS[0]

    def ask(explain):
        [answer] = answers(server.client, request(server.client, demo_image, [question], explain)).values()
        assert answer.HasField("attention") == explain
        if explain:
            check_map(answer.attention, expected[question])
        return answer.timing.answer_reused

    assert [ask(explain) for explain in (False, True, True, False)] == [False, False, True, True]


def test_maps_of_concurrent_requests_equal_those_of_single_ones(demo, demo_image, expected):
    """Explained and plain questions of several clients share batches."""
    clients = [demo.connect() for _ in range(4)]
    calls = []
    for number in range(24):
        client, explain = clients[number % 4], number % 3 > 0
        # Other bytes after the image are another file with the same pixels.
        made = request(client, demo_image + bytes([number % 5]), explain=explain)
        calls.append((explain, client.method(BLIP, "Ask")(made, timeout=TIMEOUT_S)))
    for explain, call in calls:
        found = {response.question_index: response.answer for response in call}
        for index, question in enumerate(QUESTIONS):
            assert found[index].HasField("attention") == explain
            if explain:
                check_map(found[index].attention, expected[question])
