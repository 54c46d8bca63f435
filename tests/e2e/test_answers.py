"""What is asked is answered, as the reference answers it, each answer as soon as it is there."""

import json
import queue
import threading

import pytest
from client import Client
from conftest import GOLDENS
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

MODELS = sorted(path.parent.name for path in GOLDENS.glob("*/expected.json"))


@pytest.mark.parametrize("model", MODELS)
def test_answers_through_the_server_equal_the_references(start, model):
    expected = json.loads((GOLDENS / model / "expected.json").read_text())
    cases = expected["cases"]
    images = sorted({case["image"] for case in cases})
    by_image = {image: [case for case in cases if case["image"] == image] for image in images}
    server = start("--model", str(GOLDENS / model))
    assert server.model == str(GOLDENS / model)
    inputs = [((GOLDENS / model / image).read_bytes(), [case["question"] for case in by_image[image]]) for image in images]
    outcomes = server.client.outcomes(inputs)
    assert len(outcomes) == len(cases)
    for image_index, image in enumerate(images):
        for question_index, case in enumerate(by_image[image]):
            answer = outcomes[image_index, question_index]
            assert answer.text == case["answer"], case
            assert len(answer.token_ids) == case["steps"], case
            assert (answer.token_ids[-1] == expected["stop_token_id"]) == case["stopped"], case
            assert answer.score == pytest.approx(case["score"], abs=1e-3, rel=1e-4), case


def test_an_answer_comes_with_the_ledger_of_its_cost(demo, picture):
    outcomes = demo.client.outcomes([(picture, ["what shape is in the picture?", "is there a ledger?"])])
    for answer in outcomes.values():
        timing = answer.timing
        parts = timing.queue_ms + timing.preprocess_ms + timing.vision_ms + timing.text_ms + timing.decode_ms
        assert 0 < timing.text_ms and 0 < timing.decode_ms
        assert parts <= timing.total_ms
        assert 1 <= timing.batch_images and 1 <= timing.batch_questions
        assert answer.score <= 0 <= answer.margin
    again = demo.client.outcomes([(picture, ["what colour is the ledger?"])])[0, 0]
    assert again.timing.image_reused and again.timing.vision_ms == 0


def test_the_first_answer_arrives_before_the_last_is_computed(start, picture):
    # One question a batch. What is asked after the first answer of a long request has arrived is answered before the
    # long request's last answer, so that last answer was not computed yet.
    server = start("--max-batch-questions", "1")
    other = Client(server.address)
    # Connected and told of the service before, so that its one question is all that is waited for below.
    other.outcomes([(picture, ["is anybody there?"])])
    events = queue.Queue()
    long_call = server.client.ask([(picture, [f"is number {n} in the picture?" for n in range(1000)])])

    def read():
        try:
            for _ in long_call:
                events.put("long")
            events.put("end")
        except Exception:  # The test cancels the call once it has seen enough.
            events.put("cancelled")

    reader = threading.Thread(target=read)
    reader.start()
    assert events.get() == "long"
    assert other.outcomes([(picture, ["what was asked later?"])])[0, 0].score <= 0
    events.put("short")
    seen = []
    while (event := events.get()) != "short":
        seen.append(event)
    long_call.cancel()
    reader.join()
    other.close()
    assert "end" not in seen


def test_reflection_lists_and_describes_every_service(demo):
    services = set(ProtoReflectionDescriptorDatabase(demo.client.channel).get_services())
    assert {"blip.v1.BlipService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= services
    ask = demo.client.pool.FindServiceByName("blip.v1.BlipService").FindMethodByName("Ask")
    assert ask.server_streaming and not ask.client_streaming
    assert ask.input_type.full_name == "blip.v1.AskRequest" and ask.output_type.full_name == "blip.v1.AskResponse"


@pytest.mark.parametrize("service", ["", "blip.v1.BlipService"])
def test_a_ready_server_says_serving(demo, service):
    assert demo.client.health(service) == "SERVING"
