"""Asks a fleet of blip-serve servers, and loses no answer when servers come and go."""

import asyncio
import random
from pathlib import Path

import grpc
from blip.v1 import blip_pb2, blip_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

SERVICE_CONFIG = Path(__file__).resolve().parents[1] / "service_config.json"
OPTIONS = {
    # A call is tried again only if its whole request is still here: the default, 256 KiB, is less than most photographs.
    "grpc.per_rpc_retry_buffer_size": 64 << 20,
    # A server that was started again is found within seconds instead of two minutes.
    "grpc.max_reconnect_backoff_ms": 5_000,
    # A connection whose other end is gone without a word is given up after 40 seconds.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
}
ATTEMPTS = 8
LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED}


class BlipClient:
    """Speaks to `target`, such as dns:///blip-headless:50051 or ipv4:10.0.0.1:50051,10.0.0.2:50051; by TLS with `credentials`."""

    def __init__(self, target, api_key=None, credentials=None, service_config=SERVICE_CONFIG, options=None):
        options = {**OPTIONS, "grpc.service_config": Path(service_config).read_text(), **(options or {})}
        kind, _, addresses = target.partition(":")
        if kind in ("ipv4", "ipv6") and "," in addresses:
            # Otherwise gRPC names the whole list as the :authority of every call, which is none: servers reset such calls.
            options.setdefault("grpc.default_authority", addresses.split(",")[0])
        options = list(options.items())
        if credentials:
            self.channel = grpc.aio.secure_channel(target, credentials, options=options)
        else:
            self.channel = grpc.aio.insecure_channel(target, options=options)
        self.stub = blip_pb2_grpc.BlipServiceStub(self.channel)
        self.metadata = [("x-api-key", api_key)] if api_key else None
        # How often what a call left unanswered was asked again.
        self.asked_again = 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.channel.close()

    async def ask(self, inputs, timeout_s=60):
        """Asks (image bytes, questions) pairs; yields (image index, question index, Answer or Status) as they become ready.

        The service config retries a call that has brought nothing yet. Here is what it cannot do: when a call ends early,
        only what it left unanswered is asked again, of another server. Asking twice changes nothing but the cost.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        missing = {(image, question) for image, (_, questions) in enumerate(inputs) for question in range(len(questions))}
        for attempt in range(1, ATTEMPTS + 1):
            wait_s = random.uniform(0, min(5, 0.1 * 2**attempt))
            request, pairs = request_for(inputs, missing)
            try:
                async for response in self.stub.Ask(request, timeout=deadline - loop.time(), metadata=self.metadata):
                    failed = response.WhichOneof("outcome") == "error"
                    if failed and attempt < ATTEMPTS and (delay_s := worth_waiting(response.error)) is not None:
                        wait_s = max(wait_s, delay_s)
                        continue
                    pair = pairs[response.image_index, response.question_index]
                    missing.remove(pair)
                    yield *pair, response.error if failed else response.answer
            except grpc.aio.AioRpcError as error:
                status = rpc_status.from_call(error)
                # Without details it is no word of the server's: a connection, or a proxy's, has broken.
                delay_s = worth_waiting(status) if status else 0 if error.code() in LOST else None
                if missing and (delay_s is None or attempt == ATTEMPTS):
                    raise
                wait_s = max(wait_s, delay_s or 0)
            if not missing:
                return
            self.asked_again += 1
            await asyncio.sleep(wait_s)


def request_for(inputs, missing):
    """The AskRequest for what is missing, and which pair of `inputs` each of its pairs is."""
    request, pairs = blip_pb2.AskRequest(), {}
    for image, (data, questions) in enumerate(inputs):
        wanted = [question for question in range(len(questions)) if (image, question) in missing]
        if wanted:
            entry = request.inputs.add(image=blip_pb2.Image(data=data))
            for question in wanted:
                pairs[len(request.inputs) - 1, len(entry.questions)] = (image, question)
                entry.questions.add(text=questions[question])
    return request, pairs


def worth_waiting(status):
    """How long to wait before asking again, in seconds; None if that cannot help."""
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return retry.retry_delay.ToTimedelta().total_seconds()
    return 0 if status.code == grpc.StatusCode.UNAVAILABLE.value[0] else None
