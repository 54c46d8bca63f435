"""Servers that are killed, drained, stopped and replaced: no answer is lost or comes twice."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from blip_serve_client import AsyncClient, Client, RetryPolicy
from servers import DEMO_IMAGE

COUNT = 120
IN_FLIGHT = 16
QUESTIONS = ["how many things are in the image?", "is there a square?"]
ANSWERS = ["5", "yes"]
# Slow enough that requests are in flight at every time.
ONE_AT_A_TIME = ("--max-batch-questions", "1", "--self-test-idle-s", "0")
RETRY = RetryPolicy(max_attempts=1000, initial_backoff_s=0.05, max_backoff_s=0.5)


def failing_inputs(image, *, fail):
    """Yields inputs. Calls `fail` in another thread when others are answered and in flight."""
    with ThreadPoolExecutor() as executor:
        for number in range(COUNT):
            if number == 2 * IN_FLIGHT:
                failure = executor.submit(fail)
            yield image, QUESTIONS
        # An error of `fail` becomes one of the run.
        failure.result()


def check(results):
    assert [result.index for result in results] == list(range(COUNT))
    assert all([answer.text for answer in result.answers] == ANSWERS for result in results)


async def ask_many_async(target, inputs, **options):
    async with AsyncClient(target, retry=RETRY, **options) as client:
        return [result async for result in client.ask_many(inputs, max_in_flight=IN_FLIGHT)]


def ask_many(kind, target, inputs, **options):
    """Returns the results of the sync or the async client."""
    if kind == "async":
        return asyncio.run(ask_many_async(target, inputs, **options))
    with Client(target, retry=RETRY, **options) as client:
        return list(client.ask_many(inputs, max_in_flight=IN_FLIGHT))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_killed_server_that_returns_answers_the_rest(servers, demo_image, kind):
    (server,) = servers(1, *ONE_AT_A_TIME)
    server.start()
    restarted = threading.Event()

    def restart():
        server.restart()
        restarted.set()

    check(ask_many(kind, server.address, failing_inputs(demo_image, fail=restart)))
    assert restarted.is_set()
    # The second process has answered some of the questions, not all of them.
    assert 0 < server.metric("blip_jobs_answered_total") < 2 * COUNT


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_another_server_takes_over_from_a_killed_one(servers, demo_image, kind):
    pair = [server.start() for server in servers(2, *ONE_AT_A_TIME)]
    killed = []

    def kill():
        (serving,) = [server for server in pair if server.metric("blip_jobs_answered_total") > 0]
        serving.kill()
        killed.append(serving)

    target = "ipv4:" + ",".join(server.address for server in pair)
    check(ask_many(kind, target, failing_inputs(demo_image, fail=kill)))
    (other,) = [server for server in pair if server not in killed]
    assert 0 < other.metric("blip_jobs_answered_total") < 2 * COUNT


def test_drained_server_passes_the_rest_to_another(servers, demo_image):
    pair = [server.start() for server in servers(2, *ONE_AT_A_TIME)]
    drained = []

    def drain():
        (serving,) = [server for server in pair if server.metric("blip_jobs_answered_total") > 0]
        drained.append(serving)
        serving.drain()

    target = "ipv4:" + ",".join(server.address for server in pair)
    check(ask_many("sync", target, failing_inputs(demo_image, fail=drain)))
    (other,) = [server for server in pair if server not in drained]
    assert 0 < other.metric("blip_jobs_answered_total") < 2 * COUNT


def test_server_that_stops_responding_is_left(servers, demo_image):
    pair = [server.start() for server in servers(2, *ONE_AT_A_TIME)]

    def pause():
        (serving,) = [server for server in pair if server.metric("blip_jobs_answered_total") > 0]
        serving.pause()

    target = "ipv4:" + ",".join(server.address for server in pair)
    timeouts = ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    options = {"grpc.keepalive_time_ms": 1000, **dict.fromkeys(timeouts, 500)}
    inputs = failing_inputs(demo_image, fail=pause)
    check(ask_many("sync", target, inputs, channel_options=options))


def test_connection_that_reaches_its_age_is_replaced(servers, demo_image):
    (server,) = servers(1, "--max-connection-age-s", "1", "--max-connection-age-grace-s", "1")
    server.start()
    taken = 0

    def inputs():
        nonlocal taken
        while server.metric("blip_requests_total", 'method="AskStream"') < 2:
            taken += 1
            yield demo_image, QUESTIONS

    results = ask_many("sync", server.address, inputs())
    assert [result.index for result in results] == list(range(taken))
    assert all([answer.text for answer in result.answers] == ANSWERS for result in results)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_call_sends_only_unanswered_questions_again(servers, demo_image, kind):
    (server,) = servers(1, *ONE_AT_A_TIME)
    server.start()
    questions = [f"is number {number} there?" for number in range(200)]

    def restart():
        while server.metric("blip_jobs_answered_total") < 50:
            pass
        server.restart()

    async def ask():
        async with AsyncClient(server.address, retry=RETRY) as client:
            return await client.ask(demo_image, questions)

    thread = threading.Thread(target=restart)
    thread.start()
    if kind == "async":
        answers = asyncio.run(ask())
    else:
        with Client(server.address, retry=RETRY) as client:
            answers = client.ask(demo_image, questions)
    thread.join()
    assert len(answers) == 200
    assert 0 < server.metric("blip_jobs_answered_total") < 200


def test_waiting_call_is_answered_by_a_server_that_starts(servers):
    (server,) = servers(1)
    starter = threading.Thread(target=server.start)
    with Client(server.address, wait_for_ready=True, retry=RetryPolicy(max_attempts=1)) as client:
        starter.start()
        assert client.ask(DEMO_IMAGE, QUESTIONS[1]).text == "yes"
    starter.join()
