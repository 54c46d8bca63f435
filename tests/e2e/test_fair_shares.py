"""Callers that take all they can get. Meanwhile another caller is answered.

On Linux, all addresses of 127.0.0.0/8 are local. So a test has as many peers as it needs.
"""

import contextlib
import select
import socket

import h2.events
import pytest
from raw_http2 import Connection, grpc_message
from test_request_errors import MIB

QUESTION = "how many circles are in the picture?"
GREEDY = "127.0.0.2"
KEYS = """
[[keys]]
name = "first"
key = "first-greedy-key"

[[keys]]
name = "second"
key = "second-greedy-key"

[[keys]]
name = "honest"
key = "honest-key"
"""


def assert_answered(client, image):
    assert client.outcomes([(image, [QUESTION])])[0, 0].text


def socket_to(address, source=None):
    host, port = address.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30, source_address=source and (source, 0))


def is_closed(opened):
    """Reads to the end of a connection that the server closes. Otherwise the read times out."""
    with contextlib.suppress(ConnectionError):
        while opened.recv(65_536):
            pass
    return True


def test_announced_messages_hold_no_memory(start, demo_image):
    server = start("--max-request-memory-bytes", str(32 * MIB))
    prefix = b"\0" + (28 * MIB).to_bytes(4, "big")
    with contextlib.closing(Connection(server.address)) as opened:
        for _ in range(64):
            opened.ask(prefix + b"\n", end=False, extra=[("grpc-timeout", "99999999H")])
        assert opened.answers_ping()
        assert_answered(server.connect(), demo_image)


def test_peer_with_large_messages_leaves_memory_to_others(start, demo_image):
    server = start("--max-request-memory-bytes", str(9 * MIB))
    message = grpc_message(bytes(7 * MIB))
    with contextlib.closing(Connection(server.address, GREEDY)) as opened:
        opened.ask(message[:-1], end=False)
        # Rejected by its announced length.
        stream = opened.ask(message[:100], end=False)
        headers = dict(opened.read_until(h2.events.ResponseReceived, stream).headers)
        assert headers[b"grpc-status"] == b"8"
        assert headers[b"grpc-message"].replace(b"%20", b" ").startswith(b"server busy: ")
        assert_answered(server.client, demo_image)


def test_slow_upload_ends_despite_a_longer_deadline(start, demo_image):
    server = start("--upload-timeout-s", "1")
    body = grpc_message(server.client.request([(demo_image, [QUESTION])]).SerializeToString())
    with contextlib.closing(Connection(server.address)) as opened:
        stream = opened.ask(body[:100], end=False, extra=[("grpc-timeout", "1H")])
        headers = dict(opened.read_until(h2.events.ResponseReceived, stream).headers)
        assert headers[b"grpc-status"] == b"4"
        assert headers[b"grpc-message"].replace(b"%20", b" ") == b"request upload not complete after 1 s"


def test_peer_with_many_connections_leaves_places_to_others(start, demo_image):
    server = start("--max-connections", "36", connect=False)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket_to(server.address, GREEDY)) for _ in range(36)]
        # One peer may have 32 of 36 connections.
        assert all(is_closed(refused) for refused in opened[32:])
        assert_answered(server.connect(), demo_image)


def test_connection_without_request_is_closed(start):
    server = start("--first-request-timeout-s", "1", connect=False)
    with contextlib.closing(Connection(server.address)) as silent:
        while not silent.closed:
            silent.events()
    with socket_to(server.http) as opened:
        opened.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-endless: ")
        assert is_closed(opened)


@pytest.fixture
def keys_file(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text(KEYS)
    return str(file)


def with_key(server, key):
    return server.connect(headers=[("x-api-key", key)])


def test_new_client_finds_a_place_in_a_full_queue(start, demo_image, keys_file):
    limits = ("--max-queued-questions", "400", "--max-batch-questions", "4")
    server = start("--auth-keys-file", keys_file, *limits, connect=False)
    honest = with_key(server, "honest-key")
    calls = []
    for key in ("first-greedy-key", "second-greedy-key"):
        greedy = with_key(server, key)
        request = greedy.request([(demo_image, [f"is {number} of {key} there?" for number in range(400)])])
        request.generation.num_beams = 4
        request.generation.max_new_tokens = 20
        calls.append(greedy.method("blip.v1.BlipService", "Ask")(request))
    # The first results are the questions that found no place.
    first = [next(call) for call in calls]
    assert all(response.error.message.startswith("queue full: client's share") for response in first)
    assert_answered(honest, demo_image)
    for call in calls:
        call.cancel()


def test_bodies_without_a_key_leave_memory_to_clients_with_one(start, demo_image, keys_file):
    options = ("--auth-keys-file", keys_file, "--max-keyless-memory-bytes", str(MIB))
    server = start(*options, connect=False)
    head = b"POST /v1/ask HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
    with contextlib.ExitStack() as stack:
        longer = stack.enter_context(socket_to(server.http))
        longer.sendall(head + b"2000000\r\n\r\n")
        response = longer.recv(65_536)
        assert b" 413 " in response.split(b"\r\n")[0]
        assert b"932067 bytes without a key in a header allowed" in response
        held = []
        for number in range(8):
            held.append(stack.enter_context(socket_to(server.http, f"127.0.0.{number + 2}")))
            held[-1].sendall(head + b'900000\r\n\r\n{"secret_token": "' + b"a" * 800_000)
        refused, _, _ = select.select(held, [], [], 30)
        assert any(b" 429 " in opened.recv(65_536).split(b"\r\n")[0] for opened in refused)
        assert_answered(with_key(server, "honest-key"), demo_image)
