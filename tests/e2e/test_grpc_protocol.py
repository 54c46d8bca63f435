"""gRPC calls that break the protocol: every fault of a client is an error of the client."""

import base64
import gzip
import queue
import shutil
import subprocess

import grpc
import pytest
from client import Client
from grpc_reflection.v1alpha import reflection_pb2
from raw_frames import DATA, RawConnection, frame
from raw_http2 import grpc_message
from test_metrics import Metrics
from test_request_errors import assert_documented

QUESTION = "how many circles are in the picture?"
ASK = "/blip.v1.BlipService/Ask"
CHECK = "/grpc.health.v1.Health/Check"
LIST_MODELS = "/blip.v1.BlipService/ListModels"
LOAD_MODEL = "/blip.v1.AdminService/LoadModel"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def rejection(client, fields):
    """Returns the HTTP status and the error of the fields of a response."""
    text = fields["grpc-status-details-bin"]
    status = client.type("google.rpc.Status").FromString(base64.b64decode(text + "=" * (-len(text) % 4)))
    return fields[":status"], client.request_error(status)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json", "application/grpc-web"])
def test_other_media_type_is_refused_with_status_415(demo, content_type):
    with RawConnection(demo.address) as connection:
        fields = connection.call(LIST_MODELS, grpc_message(b""), extra=[("content-type", content_type)])
    status, error = rejection(demo.client, fields)
    assert status == "415"
    assert_documented(error, "INVALID_ARGUMENT", "MEDIA_TYPE_REFUSED")


def test_method_other_than_post_is_refused_with_status_405(demo):
    with RawConnection(demo.address) as connection:
        status, error = rejection(demo.client, connection.call(LIST_MODELS, method="GET"))
    assert status == "405"
    assert_documented(error, "UNIMPLEMENTED", "METHOD_REFUSED")


def test_page_of_other_origin_is_refused(start):
    server = start("--http-cors-origins", "https://example.org")
    with RawConnection(server.address) as connection:
        call = lambda origin: connection.call(  # noqa: E731
            LIST_MODELS, grpc_message(b""), extra=[("origin", origin)]
        )
        assert call("https://example.org")["grpc-status"] == "0"
        status, error = rejection(server.client, call("https://evil.example"))
    assert status == "403"
    assert_documented(error, "PERMISSION_DENIED", "ORIGIN_REFUSED")


BODIES = {
    "no message": b"",
    "no protobuf": grpc_message(b"\xff" * 20),
    "text that is not utf-8": grpc_message(b"\x0a\x02\xff\xfe"),
    "two messages": 2 * grpc_message(b""),
    "half a message": grpc_message(bytes(100))[:50],
    "half a prefix": b"\0\0\0",
    "compressed without grpc-encoding": b"\1" + grpc_message(b"")[1:],
    "unknown flags": b"\7" + grpc_message(b"")[1:],
}


@pytest.mark.parametrize("path", [ASK, CHECK, LOAD_MODEL])
def test_unreadable_body_is_an_error_of_the_client(start, path):
    server = start("--admin")
    with RawConnection(server.address) as connection:
        for name, body in BODIES.items():
            if (name, path) == ("text that is not utf-8", ASK):
                continue
            _, error = rejection(server.client, connection.call(path, body))
            assert error.reason == "BODY_UNREADABLE", name
            assert_documented(error, "INVALID_ARGUMENT", "BODY_UNREADABLE")
    metrics = Metrics(server)
    assert metrics.value("blip_requests_total", code="INTERNAL") == 0
    assert metrics.value("blip_requests_total", code="UNKNOWN") == 0


def test_too_long_message_of_small_methods_is_refused(demo):
    for path in (CHECK, LOAD_MODEL, REFLECTION):
        with RawConnection(demo.address) as connection:
            _, error = rejection(demo.client, connection.call(path, b"\0" + (1 << 20).to_bytes(4, "big") + b"x"))
        assert_documented(error, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")


@pytest.mark.parametrize("path", ["/blip.v1.BlipService/Nope", "/nope.Service/Ask", "/", "/nope"])
def test_unknown_method_is_unimplemented_with_its_name(demo, path):
    with RawConnection(demo.address) as connection:
        status, error = rejection(demo.client, connection.call(path, grpc_message(b"")))
    assert status == "200"
    assert_documented(error, "UNIMPLEMENTED", "METHOD_UNKNOWN")
    assert error.metadata["value"] == path


def test_unsupported_compression_is_unimplemented_with_reason(demo):
    with RawConnection(demo.address) as connection:
        fields = connection.call(ASK, grpc_message(b""), extra=[("grpc-encoding", "snappy")])
    _, error = rejection(demo.client, fields)
    assert_documented(error, "UNIMPLEMENTED", "COMPRESSION_UNSUPPORTED")
    assert fields["grpc-accept-encoding"] == error.metadata["limit"]


def test_compressed_calls_are_answered(start, demo_image):
    server = start("--max-message-bytes", "1000000")
    channel = grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip)
    client = Client(server.address, channel=channel)
    # The library compresses a message that becomes smaller.
    inputs = [(demo_image, [QUESTION] * 100)]
    expected, answers = server.client.outcomes(inputs), client.outcomes(inputs)
    assert answers.keys() == expected.keys()
    assert all(answers[item].token_ids == expected[item].token_ids for item in expected)
    assert health(client, "Check", "blip.v1.BlipService").status == 1
    error = client.failed_call([(bytes(2_000_000), [QUESTION])])
    assert_documented(error, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    client.close()


def test_compressed_bomb_is_refused_in_little_memory(start):
    server = start("--max-message-bytes", "1000000")
    idle = server.peak_memory_bytes()
    bomb = gzip.compress(bytes(50_000_000))
    body = b"\1" + len(bomb).to_bytes(4, "big") + bomb
    with RawConnection(server.address) as connection:
        stream, headers = connection.headers(ASK, extra=[("grpc-encoding", "gzip")])
        connection.send(headers)
        for begin in range(0, len(body), 16_384):
            connection.send(frame(DATA, stream, body[begin : begin + 16_384]))
        _, error = rejection(server.client, connection.response(stream))
    assert_documented(error, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert server.peak_memory_bytes() - idle < 30_000_000


def health(client, method, service):
    request = client.type("grpc.health.v1.HealthCheckRequest")(service=service)
    return client.method("grpc.health.v1.Health", method)(request)


def test_health_of_unknown_service_is_watched_until_it_serves(start):
    server = start("--admin")
    client = server.client
    name = "blip.v1.BlipService/second"
    error = client.error_of(lambda: health(client, "Check", name))
    assert_documented(error, "NOT_FOUND", "SERVICE_UNKNOWN")
    watch = health(client, "Watch", name)
    assert next(watch).status == 3, "SERVICE_UNKNOWN"
    load = client.type("blip.v1.LoadModelRequest")(name="second", source="demo")
    client.method("blip.v1.AdminService", "LoadModel")(load)
    assert next(watch).status == 1, "SERVING"
    client.method("blip.v1.AdminService", "UnloadModel")(
        client.type("blip.v1.UnloadModelRequest")(name="second")
    )
    assert next(watch).status == 3, "SERVICE_UNKNOWN"


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_goes_on_after_unknown_symbol(demo, version):
    call = demo.client.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    symbols = ["nope.X", "blip.v1.BlipService", "blip.v1.AskRequest.nope", "blip.v1.AskRequest.inputs"]
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    responses = list(call(iter(requests)))
    kinds = [response.WhichOneof("message_response") for response in responses]
    assert kinds == ["error_response", "file_descriptor_response"] * 2
    assert responses[0].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert [response.original_request for response in responses] == requests
    with pytest.raises(KeyError):
        demo.client.pool.FindMessageTypeByName("nope.X")


def write_keys(file, *keys):
    file.write_text("".join(f"[[keys]]\nname = '{key}'\nkey = '{key}'\n" for key in keys))


def test_stream_of_a_removed_key_ends(start, tmp_path, demo_image):
    keys = tmp_path / "keys.toml"
    write_keys(keys, "valid-key", "removed-key")
    server = start("--auth-keys-file", str(keys), "--auth-reload-s", "1", connect=False)
    valid, removed = (server.connect(headers=[("x-api-key", key)]) for key in ("valid-key", "removed-key"))

    def open_stream(client):
        """Opens an AskStream. Returns its requests, the first request, and its responses."""
        request, requests = client.request([(demo_image, [QUESTION])]), queue.SimpleQueue()
        responses = client.method("blip.v1.BlipService", "AskStream")(iter(requests.get, None))
        requests.put(request)
        assert next(responses).answer.text
        return requests, request, responses

    valid_requests, request, valid_responses = open_stream(valid)
    _, _, removed_responses = open_stream(removed)
    write_keys(keys, "valid-key")
    with pytest.raises(grpc.RpcError) as raised:
        next(removed_responses)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert b"API_KEY_INVALID" in dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
    valid_requests.put(request)
    assert next(valid_responses).answer.text
    valid_requests.put(None)
    assert list(valid_responses) == []


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, time);
    if (id == CLOCK_REALTIME) time->tv_sec -= 70LL * 365 * 86400;
    return result;
}
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_clock_before_1970_does_not_affect_answers(start, tmp_path, demo_image):
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    server = start(environment={"LD_PRELOAD": str(library)})
    assert server.client.outcomes([(demo_image, [QUESTION])])[0, 0].text
    with RawConnection(server.http.removeprefix("http://")) as connection:
        fields = connection.call("/v1/models", method="GET")
        assert fields[":status"] == "200" and "date" not in fields
