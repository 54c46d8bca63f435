"""A client on grpcio alone, with the service configuration of `examples` and its retries."""

import asyncio
import random
from pathlib import Path

import grpc
from blip.v1 import blip_pb2, blip_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

SERVICE_CONFIG = Path(__file__).resolve().parents[2] / "examples/service_config.json"
OPTIONS = {
    # gRPC retries a call only if its buffer holds the whole request. The default of 256 KiB is
    # smaller than most photographs.
    "grpc.per_rpc_retry_buffer_size": 64 << 20,
    # Limits the delay until a restarted server is used. The default is two minutes.
    "grpc.max_reconnect_backoff_ms": 5_000,
    # Closes a connection 40 seconds after its peer stops responding.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
}
ATTEMPTS = 8
CONNECTION_ERRORS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED}


class BlipClient:
    """A client for the servers of a gRPC target, with TLS if there are `credentials`.

    Examples of targets: dns:///blip-headless:50051 and ipv4:10.0.0.1:50051,10.0.0.2:50051.
    """

    def __init__(self, target, api_key=None, credentials=None, service_config=SERVICE_CONFIG, options=None):
        options = {**OPTIONS, "grpc.service_config": Path(service_config).read_text(), **(options or {})}
        kind, _, addresses = target.partition(":")
        if kind in ("ipv4", "ipv6") and "," in addresses:
            # By default gRPC sends the whole list as :authority of every call. Servers reset such
            # calls, because the list is not a valid authority.
            options.setdefault("grpc.default_authority", addresses.split(",")[0])
        options = list(options.items())
        if credentials:
            self.channel = grpc.aio.secure_channel(target, credentials, options=options)
        else:
            self.channel = grpc.aio.insecure_channel(target, options=options)
        self.stub = blip_pb2_grpc.BlipServiceStub(self.channel)
        self.metadata = [("x-api-key", api_key)] if api_key else None
        # Number of calls that repeated the unanswered questions of an earlier call.
        self.retries = 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.channel.close()

    async def ask(self, inputs, timeout_s=60):
        """Asks questions, given as (image bytes, questions) pairs.

        Yields (image index, question index, Answer or Status) as results become ready.

        The service config retries calls without any response. This method handles calls that end
        early: it sends their unanswered questions again. A repeated question has no side effects.
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
                    if failed and attempt < ATTEMPTS and (delay_s := retry_delay_s(response.error)) is not None:
                        wait_s = max(wait_s, delay_s)
                        continue
                    pair = pairs[response.image_index, response.question_index]
                    missing.remove(pair)
                    yield *pair, response.error if failed else response.answer
            except grpc.aio.AioRpcError as error:
                status = rpc_status.from_call(error)
                # An error without details does not come from the server: a connection was lost,
                # perhaps one of a proxy.
                delay_s = retry_delay_s(status) if status else 0 if error.code() in CONNECTION_ERRORS else None
                if missing and (delay_s is None or attempt == ATTEMPTS):
                    raise
                wait_s = max(wait_s, delay_s or 0)
            if not missing:
                return
            self.retries += 1
            await asyncio.sleep(wait_s)


def request_for(inputs, missing):
    """Returns the AskRequest for the missing questions.

    Also returns, for each of its questions, the index in `inputs`.
    """
    request, pairs = blip_pb2.AskRequest(), {}
    for image, (data, questions) in enumerate(inputs):
        open_questions = [question for question in range(len(questions)) if (image, question) in missing]
        if open_questions:
            entry = request.inputs.add(image=blip_pb2.Image(data=data))
            for question in open_questions:
                pairs[len(request.inputs) - 1, len(entry.questions)] = (image, question)
                entry.questions.add(text=questions[question])
    return request, pairs


def retry_delay_s(status):
    """Returns the delay before a retry, in seconds, or None if a retry cannot succeed."""
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return retry.retry_delay.ToTimedelta().total_seconds()
    return 0 if status.code == grpc.StatusCode.UNAVAILABLE.value[0] else None
