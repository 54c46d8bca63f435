"""Errors of calls and items."""

import asyncio

import pytest
from blip_serve_client import (
    AsyncClient,
    AuthenticationError,
    CallError,
    Client,
    ConnectionFailedError,
    DeadlineExceededError,
    ItemError,
    RetryPolicy,
)
from servers import DEMO_IMAGE, free_port

QUESTION = "is there a square?"
KEY = "correct-horse-battery"
ONCE = RetryPolicy(max_attempts=1)


def test_unknown_model_is_a_call_error_with_metadata(client):
    with pytest.raises(CallError) as error:
        client.ask(DEMO_IMAGE, QUESTION, model="missing")
    assert (error.value.code, error.value.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")
    assert error.value.metadata["value"] == '"missing"'
    assert error.value.request_id
    assert "(MODEL_UNKNOWN). Name a model that ListModels returns" in str(error.value)
    with pytest.raises(CallError, match="MODEL_UNKNOWN"):
        client.model("missing")


def test_unknown_model_ends_ask_many(client):
    with pytest.raises(CallError) as error:
        list(client.ask_many([(DEMO_IMAGE, QUESTION)] * 100, model="missing"))
    assert error.value.reason == "MODEL_UNKNOWN"


def test_unreadable_image_is_an_item_error_with_all_results(client):
    with pytest.raises(ItemError) as error:
        client.ask(b"not an image", [QUESTION, QUESTION])
    assert (error.value.code, error.value.reason) == ("INVALID_ARGUMENT", "IMAGE_FORMAT_UNKNOWN")
    assert error.value.field == "inputs[0].image.data"
    assert [type(result) for result in error.value.results] == [ItemError, ItemError]


def test_failed_question_leaves_the_others_their_answers(client):
    with pytest.raises(ItemError) as error:
        client.ask(DEMO_IMAGE, [QUESTION, " ", QUESTION])
    first, second, third = error.value.results
    assert (first.text, second.reason, third.text) == ("yes", "QUESTION_EMPTY", "yes")


def test_failed_inputs_stand_among_the_answers_of_ask_many(client):
    images = [
        DEMO_IMAGE,
        b"not an image",
        "nowhere.png",
        DEMO_IMAGE,
        "http://127.0.0.1/a.png",
        b"",
        DEMO_IMAGE,
    ]
    results = list(client.ask_many((image, [QUESTION, QUESTION, "is there a ring?"]) for image in images))
    reasons = [[getattr(answer, "reason", answer) for answer in result.answers] for result in results]
    good = [["yes"] * 3] * 3
    assert [[answer.text for answer in results[index].answers] for index in (0, 3, 6)] == good
    assert reasons[1] == ["IMAGE_FORMAT_UNKNOWN"] * 3
    assert reasons[2] == ["IMAGE_UNREADABLE"] * 3
    assert reasons[4] == ["URL_ADDRESS_REFUSED"] * 3
    assert reasons[5] == ["IMAGE_EMPTY"] * 3
    assert [result.index for result in results] == list(range(7))
    with pytest.raises(ItemError, match="IMAGE_EMPTY"):
        _ = results[5].answer


def test_input_above_the_message_limit_fails_alone(servers):
    (server,) = servers(1, "--max-message-bytes", 100_000)
    server.start()
    images = [DEMO_IMAGE, bytes(200_000), DEMO_IMAGE, bytes(300_000), DEMO_IMAGE]
    with Client(server.address) as client:
        results = list(client.ask_many((image, [QUESTION, QUESTION]) for image in images))
        with pytest.raises(CallError, match="MESSAGE_TOO_LARGE"):
            client.ask(images[1], QUESTION)
    outcomes = [[getattr(each, "text", None) or each.reason for each in result.answers] for result in results]
    good, bad = ["yes"] * 2, ["MESSAGE_TOO_LARGE"] * 2
    assert outcomes == [good, bad, good, bad, good]


def test_only_failed_inputs_end_ask_many_without_a_call(client):
    results = list(client.ask_many((("nowhere.png", QUESTION) for _ in range(200)), max_in_flight=4))
    assert [result.answers[0].reason for result in results] == ["IMAGE_UNREADABLE"] * 200


def test_missing_and_refused_key_are_authentication_errors(servers, monkeypatch):
    (server,) = servers(1, "--auth-keys", KEY)
    server.start()
    for key, reason in ((None, "API_KEY_MISSING"), ("wrong", "API_KEY_INVALID")):
        with Client(server.address, api_key=key) as client:
            for call in (client.models, lambda: list(client.ask_many([(DEMO_IMAGE, QUESTION)]))):
                with pytest.raises(AuthenticationError) as error:
                    call()
                assert error.value.reason == reason
                assert error.value.remedy[:12] in ("Send the key", "Request a ke") and "\n" not in str(error.value)
    with Client(server.address, api_key=KEY) as client:
        assert client.ask(DEMO_IMAGE, QUESTION).text == "yes"
    monkeypatch.setenv("BLIP_SERVE__API_KEY", KEY)
    monkeypatch.setenv("BLIP_SERVE__SERVER", f"http://{server.address}")
    with Client() as client:
        assert client.ask(DEMO_IMAGE, QUESTION).text == "yes"


def test_missing_server_is_a_connection_error():
    address = f"127.0.0.1:{free_port()}"
    with Client(address, retry=RetryPolicy(max_attempts=2, initial_backoff_s=0)) as client:
        for call in (client.models, lambda: client.ask(DEMO_IMAGE, QUESTION)):
            with pytest.raises(ConnectionFailedError, match="Connection refused"):
                call()
    with (
        Client(address, retry=RetryPolicy(retry_timeout_s=0)) as client,
        pytest.raises(ConnectionFailedError),
    ):
        list(client.ask_many([(DEMO_IMAGE, QUESTION)]))


def test_call_ends_at_its_time_limit(servers):
    (server,) = servers(1)
    server.start()

    async def run():
        async with AsyncClient(server.address, timeout_s=0.3) as client:
            with pytest.raises(DeadlineExceededError):
                await client.ask(DEMO_IMAGE, QUESTION)
            with pytest.raises(DeadlineExceededError):
                _ = [result async for result in client.ask_many([(DEMO_IMAGE, QUESTION)], timeout_s=0.3)]

    with Client(server.address) as client:
        client.ask(DEMO_IMAGE, QUESTION)
        server.pause()
        with pytest.raises(DeadlineExceededError) as error:
            client.ask(DEMO_IMAGE, QUESTION, timeout_s=0.3)
        assert error.value.code == "DEADLINE_EXCEEDED"
        with pytest.raises(DeadlineExceededError):
            list(client.ask_many([(DEMO_IMAGE, QUESTION)], timeout_s=0.3))
        asyncio.run(run())
        server.resume()
        assert client.ask(DEMO_IMAGE, QUESTION).text == "yes"


def test_full_queue_is_retried_and_its_error_has_the_delay(servers):
    (server,) = servers(1, "--max-queued-questions", "1", "--max-batch-questions", "1")
    server.start()
    questions = [f"is number {number} there?" for number in range(6)]
    with Client(server.address, retry=ONCE) as client, pytest.raises(ItemError) as error:
        client.ask(DEMO_IMAGE, questions)
    rejected = [result for result in error.value.results if isinstance(result, ItemError)]
    assert {result.reason for result in rejected} == {"QUEUE_FULL"}
    assert all(result.retry_delay_s > 0 for result in rejected)
    with Client(server.address, retry=RetryPolicy(max_attempts=1000)) as client:
        assert len(client.ask(DEMO_IMAGE, questions[:3])) == 3
        (result,) = client.ask_many([(DEMO_IMAGE, questions[:3])])
    assert all(answer.text for answer in result.answers)


@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ("https://host/path", {}, "invalid server"),
        ("http://user@host", {}, "invalid server"),
        (" ", {}, "invalid server"),
        ("http://host:50051", {"tls": True}, "TLS: conflict"),
        ("host:1", {"tls": False, "ca_file": "ca.pem"}, "TLS: conflict"),
        ("host:1", {"cert_file": "cert.pem"}, "cert_file and key_file: expected both or none"),
    ],
)
def test_invalid_arguments_are_value_errors(server, options, message):
    with pytest.raises(ValueError, match=message):
        Client(server, **options)


def test_server_of_another_protocol_is_an_error_with_a_remedy(demo):
    # The listener for metrics speaks HTTP, and no gRPC.
    with Client(f"127.0.0.1:{demo.metrics_port}", retry=ONCE) as client, pytest.raises(CallError) as error:
        client.models()
    assert "Use the address of gRPC" in str(error.value)
