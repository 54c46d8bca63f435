"""Connections on both ports that break the rules of HTTP/2, or that take no responses."""

import struct
import threading

import pytest
from client import Client
from raw_frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PRIORITY,
    RST_STREAM,
    WINDOW_UPDATE,
    RawConnection,
    frame,
    setting,
)
from raw_http2 import grpc_message
from test_metrics import until

QUESTION = "how many circles are in the picture?"
ASK = "/blip.v1.BlipService/Ask"


def overflow(stream):
    """Returns frames that open the window of a stream beyond the maximum."""
    return frame(WINDOW_UPDATE, stream, struct.pack(">I", 2**31 - 1)) * 2


# Each makes the server reset the stream (CVE-2025-8671).
FAULTS = {
    "priority on itself": lambda stream: frame(PRIORITY, stream, struct.pack(">IB", stream, 16)),
    "window overflow": overflow,
}


def addresses(server):
    return {"grpc": server.address, "http": server.http.removeprefix("http://")}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("port", ["grpc", "http"])
def test_streams_that_the_server_must_reset_end_the_connection(demo, demo_image, port, fault):
    limit = 20_000
    with RawConnection(addresses(demo)[port]) as connection:
        goaways = []
        read = lambda: goaways.extend(  # noqa: E731
            payload for kind, _, _, payload in connection.frames() if kind == GOAWAY
        )
        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(limit):
            stream, headers = connection.headers(ASK)
            connection.send(headers + FAULTS[fault](stream))
            if not connection.is_open:
                break
        reader.join()
        assert connection.next_stream < limit
        assert goaways and goaways[-1][4:8] == struct.pack(">I", 11), "ENHANCE_YOUR_CALM"
        assert b"too_many_internal_resets" in goaways[-1]
    assert demo.connect().outcomes([(demo_image, [QUESTION])])[0, 0].text


def test_stream_whose_client_takes_nothing_is_reset(start, demo_image):
    server = start("--write-stall-s", "1")
    body = grpc_message(server.client.request([(demo_image, [QUESTION])]).SerializeToString())
    with RawConnection(server.address, setting(INITIAL_WINDOW_SIZE, 0)) as connection:
        stream, headers = connection.headers(ASK)
        connection.send(headers + frame(DATA, stream, body, END_STREAM))
        assert connection.first(HEADERS, stream)
        assert connection.first(RST_STREAM, stream) == struct.pack(">I", 8), "CANCEL"
        # The connection and its other streams go on.
        stream, headers = connection.headers(ASK)
        connection.send(headers + frame(WINDOW_UPDATE, stream, struct.pack(">I", 1 << 20)))
        connection.send(frame(DATA, stream, body, END_STREAM))
        assert connection.first(DATA, stream)
    until(server, lambda metrics: metrics.value("blip_write_stalls_total", ended="stream") == 1)


def test_window_that_shrinks_within_a_response_ends_its_stream(start):
    server = start("--write-stall-s", "1")
    path = "/docs/swagger-ui-bundle.js"
    with RawConnection(addresses(server)["http"], setting(INITIAL_WINDOW_SIZE, 20_000)) as connection:
        stream, headers = connection.headers(path, end=True, method="GET")
        connection.send(headers)
        assert connection.first(DATA, stream)
        connection.send(setting(INITIAL_WINDOW_SIZE, 0))
        assert connection.first(RST_STREAM, stream) == struct.pack(">I", 8), "CANCEL"


def test_connection_that_reads_nothing_is_closed(start):
    server = start("--write-stall-s", "1")
    with RawConnection(addresses(server)["http"], setting(INITIAL_WINDOW_SIZE, 2**31 - 1)) as connection:
        for _ in range(60):
            _, headers = connection.headers("/docs/swagger-ui-bundle.js", end=True, method="GET")
            connection.send(headers + frame(WINDOW_UPDATE, 0, struct.pack(">I", 1 << 22)))
        until(server, lambda metrics: metrics.value("blip_write_stalls_total", ended="connection") == 1)


def test_old_connection_is_asked_to_close(start, demo_image):
    server = start("--max-connection-age-s", "1", "--max-connection-age-grace-s", "30")
    with RawConnection(server.address) as connection:
        assert connection.first(GOAWAY) is not None
    client = Client(server.address)
    assert client.outcomes([(demo_image, [QUESTION])])[0, 0].text
    client.close()
