"""Retries of gRPC when a server fails, and their limits."""

import asyncio
import os
import signal

import grpc
import pytest
from blip_client import BlipClient, request_for
from known_answers import noise
from servers import TIMEOUT_S, ROOT

# Larger than gRPC's default retry buffer of 256 KiB.
LARGE = noise(340, seed=2)


def request(image, questions):
    """Returns an AskRequest."""
    return request_for([(image, questions)], {(0, number) for number in range(len(questions))})[0]


async def ask_while_server_fails(servers, **options):
    """Asks with the retries of the service config only.

    A server accepts the call and fails before its first answer. Another server starts.
    """
    dying, other = servers(2)
    dying.start()
    async with BlipClient(f"ipv4:{dying.address},{other.address}", options=options) as client:
        # The connection is open.
        assert [response async for response in client.stub.Ask(request(LARGE, ["is there a circle?"]))]
        os.kill(dying.process.pid, signal.SIGSTOP)
        call = client.stub.Ask(request(LARGE, ["is there a square?"]), timeout=TIMEOUT_S)
        answers = asyncio.create_task(anext(aiter(call)))
        # Starting a server takes longer than sending the call.
        await asyncio.to_thread(other.start)
        dying.kill()
        return await answers


def test_service_config_retries_call_without_answers(servers):
    assert asyncio.run(ask_while_server_fails(servers)).WhichOneof("outcome") == "answer"


def test_request_above_retry_buffer_is_not_retried(servers):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        asyncio.run(ask_while_server_fails(servers, **{"grpc.per_rpc_retry_buffer_size": 256 << 10}))
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_call_with_answers_is_not_retried(servers):
    image = (ROOT / "models/demo/demo.png").read_bytes()
    questions = [f"is number {number} there?" for number in range(1000)]

    async def run():
        pair = [
            server.start() for server in servers(2, "--max-batch-questions", "1", "--self-test-idle-s", "0")
        ]
        async with BlipClient("ipv4:" + ",".join(server.address for server in pair)) as client:
            responses = aiter(client.stub.Ask(request(image, questions), timeout=TIMEOUT_S))
            await anext(responses)
            (dying,) = [server for server in pair if server.metric("blip_queue_jobs") > 0]
            dying.kill()
            with pytest.raises(grpc.aio.AioRpcError) as error:
                while True:
                    await anext(responses)
            return error.value.code()

    assert asyncio.run(run()) == grpc.StatusCode.UNAVAILABLE
