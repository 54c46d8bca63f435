"""Answers equal the reference, and each is sent as soon as it is computed."""

import json
import urllib.request

import pytest
from conftest import GOLDENS
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

MODELS = sorted(path.parent.name for path in GOLDENS.glob("*/expected.json"))


@pytest.mark.parametrize("model", MODELS)
def test_answers_equal_reference(start, model):
    expected = json.loads((GOLDENS / model / "expected.json").read_text())
    cases = expected["cases"]
    images = sorted({case["image"] for case in cases})
    by_image = {image: [case for case in cases if case["image"] == image] for image in images}
    server = start("--model", str(GOLDENS / model))
    assert server.model == str(GOLDENS / model)
    inputs = [
        ((GOLDENS / model / image).read_bytes(), [case["question"] for case in by_image[image]])
        for image in images
    ]
    outcomes = server.client.outcomes(inputs)
    assert len(outcomes) == len(cases)
    for image_index, image in enumerate(images):
        for question_index, case in enumerate(by_image[image]):
            answer = outcomes[image_index, question_index]
            assert answer.text == case["answer"], case
            assert len(answer.token_ids) == case["steps"], case
            assert (answer.token_ids[-1] == expected["stop_token_id"]) == case["stopped"], case
            assert answer.score == pytest.approx(case["score"], abs=1e-3, rel=1e-4), case


def test_two_engines_answer_like_one(start, demo, demo_image):
    server = start("--engines", "2", "--max-batch-questions", "4")
    files = [demo_image + bytes([number]) for number in range(12)]
    inputs = [(file, [f"is there a {shape}?" for shape in ("circle", "ring", "square")]) for file in files]
    calls = [server.connect().ask(inputs) for _ in range(4)]
    expected = {item: answer.token_ids for item, answer in demo.client.outcomes(inputs).items()}
    for call in calls:
        answers = {
            (response.image_index, response.question_index): response.answer.token_ids for response in call
        }
        assert answers == expected
    with urllib.request.urlopen(f"{server.metrics}/metrics", timeout=30) as metrics:
        assert '\nblip_engines_alive{model="demo"} 2\n' in metrics.read().decode()


def test_answer_has_timing_of_its_stages(demo, demo_image):
    outcomes = demo.client.outcomes([(demo_image, ["what shape is in the picture?", "is there a star?"])])
    for answer in outcomes.values():
        timing = answer.timing
        parts = timing.queue_ms + timing.preprocess_ms + timing.vision_ms + timing.text_ms + timing.decode_ms
        assert 0 < timing.text_ms and 0 < timing.decode_ms
        assert parts <= timing.total_ms
        assert 1 <= timing.batch_images and 1 <= timing.batch_questions
        assert answer.score <= 0 <= answer.margin
    again = demo.client.outcomes([(demo_image, ["what colour is the star?"])])[0, 0]
    assert again.timing.image_reused and again.timing.vision_ms == 0


def test_repeated_question_is_answered_from_cache(start, demo_image):
    server = start(cache_answers=True)
    inputs = [(demo_image, ["what shape is in the picture?", "is there a circle?"])]
    first = server.client.outcomes(inputs)
    # The tokens are the same.
    other_spelling = [(demo_image, ["What shape is  in the picture?", "is there a circle ?"])]
    for client, questions in (
        (server.client, inputs),
        (server.connect(), inputs),
        (server.connect(), other_spelling),
    ):
        again = client.outcomes(questions)
        for item, answer in again.items():
            timing = answer.timing
            assert timing.answer_reused and not first[item].timing.answer_reused
            assert (
                timing.total_ms
                > 0
                == timing.queue_ms
                == timing.vision_ms
                == timing.text_ms
                == timing.decode_ms
            )
            assert not (
                timing.batch_images or timing.batch_questions or timing.image_reused or timing.answer_shared
            )
            answer.ClearField("timing")
            expected = type(answer).FromString(first[item].SerializeToString())
            expected.ClearField("timing")
            assert answer == expected
    for other in ((demo_image + b"!", "is there a circle?"), (demo_image, "is there a ring?")):
        assert not server.client.outcomes([(other[0], [other[1]])])[0, 0].timing.answer_reused


def test_first_answer_is_ready_before_last_question_starts(start, demo_image):
    # Each batch has one question. The times come from the server. tests/server/streaming.rs shows
    # with a controlled engine that an answer also arrives before the last one is computed.
    server = start("--max-batch-questions", "1")
    responses = list(
        server.client.ask([(demo_image, [f"is number {n} in the picture?" for n in range(400)])])
    )
    assert len(responses) == 400
    first, last = responses[0].answer.timing, responses[-1].answer.timing
    assert first.total_ms < last.preprocess_ms + last.queue_ms


def test_reflection_describes_every_service(demo):
    services = set(ProtoReflectionDescriptorDatabase(demo.client.channel).get_services())
    assert {"blip.v1.BlipService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= services
    ask = demo.client.pool.FindServiceByName("blip.v1.BlipService").FindMethodByName("Ask")
    assert ask.server_streaming and not ask.client_streaming
    assert (
        ask.input_type.full_name == "blip.v1.AskRequest"
        and ask.output_type.full_name == "blip.v1.AskResponse"
    )


@pytest.mark.parametrize("service", ["", "blip.v1.BlipService"])
def test_ready_server_reports_serving(demo, service):
    assert demo.client.health(service) == "SERVING"
