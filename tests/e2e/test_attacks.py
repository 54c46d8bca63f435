"""Attacks on one running server. After each of them, a valid request is answered as before.

The memory of the server stays bounded over the whole file.
"""

import contextlib
import os
import socket
import struct
import subprocess
import threading
import zlib

import grpc
import h2.events
import h2.exceptions
import pytest
from conftest import ROOT, Server
from image_server import ImageServer
from raw_frames import DATA, GOAWAY, RawConnection
from raw_http2 import Connection, grpc_message
from test_metrics import Metrics
from test_request_errors import MIB, assert_documented, png_header

QUESTION = "how many circles are in the picture?"
MAX_EXTRA_BYTES = 300 * MIB


@pytest.fixture(scope="module")
def target(demo_image):
    """The server under attack, with its answer to a valid question.

    It closes idle connections quickly.
    """
    server = Server("--handshake-timeout-s", "1", "--upload-idle-timeout-s", "1")
    server.expected = server.client.outcomes([(demo_image, [QUESTION])])[0, 0].token_ids
    server.idle_bytes = server.peak_memory_bytes()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def check_server_after_attack(target, demo_image):
    """After each attack, a new connection gets the same answer, and memory is bounded."""
    yield
    client = target.connect()
    assert client.outcomes([(demo_image, [QUESTION])])[0, 0].token_ids == target.expected
    assert target.peak_memory_bytes() - target.idle_bytes < MAX_EXTRA_BYTES


def lzw_gif(width, height, frames=1):
    """Returns a GIF that declares a size. Every frame is one white pixel."""
    frame = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return (
        b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"
    )


def tiff(width, height, compression=1):
    """Returns a little-endian TIFF with one strip that declares a size and contains 8 bytes."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 8),
    ]
    fields = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(entries)) + fields + bytes(4)


def bmp(width, height):
    """Returns a bitmap that declares a size and contains 64 bytes."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + header + bytes(64)


def webp(width, height):
    """Returns a lossless WebP that declares a size of 14 bits each."""
    bits = 0x2F | (width - 1) << 8 | (height - 1) << 22
    data = bits.to_bytes(5, "little") + bytes(32)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def zip_bomb_png(side):
    """Returns a valid PNG with equal pixels, compressed to a thousandth of their size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    pixels = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BOMBS = {
    "png of 4 gigapixels": (png_header(65_535, 65_535), "IMAGE_TOO_MANY_PIXELS"),
    "png of 2^31 columns": (png_header(2**31 - 1, 2**31 - 1), "IMAGE_TOO_MANY_PIXELS"),
    "png that inflates a thousandfold": (zip_bomb_png(12_000), "IMAGE_TOO_MANY_PIXELS"),
    "gif of 4 gigapixels": (lzw_gif(65_535, 65_535), "IMAGE_TOO_MANY_PIXELS"),
    "tiff of 10 gigapixels": (tiff(100_000, 100_000), "IMAGE_TOO_MANY_PIXELS"),
    "tiff of 2^32 columns": (tiff(2**32 - 1, 2**32 - 1), "IMAGE_TOO_MANY_PIXELS"),
    "tiff without its strip": (tiff(4000, 4000), "IMAGE_UNREADABLE"),
    "bmp of 4 gigapixels": (bmp(65_535, 65_535), "IMAGE_TOO_MANY_PIXELS"),
    "webp of 256 megapixels": (webp(16_000, 16_000), "IMAGE_TOO_MANY_PIXELS"),
    "svg": (
        b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg>&a;</svg>",
        "IMAGE_FORMAT_UNKNOWN",
    ),
    "page followed by an image": (b"<html>" + png_header(1, 1), "IMAGE_FORMAT_UNKNOWN"),
    "zip that contains an image": (b"PK\3\4" + png_header(1, 1), "IMAGE_FORMAT_UNKNOWN"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_oversized_image_is_rejected_by_header(target, name):
    image, reason = BOMBS[name]
    assert len(image) < 500_000
    for error in target.client.outcomes([(image, [QUESTION])] * 8).values():
        assert_documented(error, "INVALID_ARGUMENT", reason)


def test_only_first_of_10000_frames_is_decoded(target):
    outcome = target.client.outcomes([(lzw_gif(1, 1, frames=10_000), [QUESTION])])[0, 0]
    single = target.client.outcomes([(lzw_gif(1, 1), [QUESTION])])[0, 0]
    assert outcome.token_ids == single.token_ids


def test_bytes_after_image_are_ignored(target, demo_image):
    for tail in (b"<script>alert(1)</script>", b"PK\3\4" + bytes(1000), lzw_gif(65_535, 65_535)):
        assert target.client.outcomes([(demo_image + tail, [QUESTION])])[0, 0].token_ids == target.expected


def test_truncated_jpeg_is_rejected_unless_complete(target):
    file = (ROOT / "crates/images/tests/pillow/jpeg_420_progressive.jpeg").read_bytes()
    complete = target.client.outcomes([(file, [QUESTION])])[0, 0]
    cuts = [file[: len(file) * percent // 100] for percent in range(1, 100)]
    for begin in range(0, len(cuts), 50):
        batch = cuts[begin : begin + 50]
        outcomes = target.client.outcomes([(cut, [QUESTION]) for cut in batch])
        for (index, _), outcome in outcomes.items():
            # A file without its last marker contains all pixels.
            if hasattr(outcome, "token_ids"):
                assert len(batch[index]) >= len(file) - 2 and outcome.token_ids == complete.token_ids
            else:
                assert outcome.reason in ("IMAGE_UNREADABLE", "IMAGE_FORMAT_UNKNOWN"), index
                assert_documented(outcome, "INVALID_ARGUMENT", outcome.reason)


@contextlib.contextmanager
def connection(target):
    """Opens a connection and closes it."""
    opened = Connection(target.address)
    yield opened
    opened.close()


def request_bytes(target, demo_image):
    return grpc_message(target.client.request([(demo_image, [QUESTION])]).SerializeToString())


def test_giant_metadata_is_rejected(target, demo_image):
    def send_metadata(length):
        with pytest.raises(grpc.RpcError) as raised:
            target.client.method("grpc.health.v1.Health", "Check")(
                target.client.type("grpc.health.v1.HealthCheckRequest")(),
                metadata=[("x-giant", "a" * length)],
            )
        return raised.value.code().name, raised.value.details()

    # gRPC has no code for this HTTP status.
    code, details = send_metadata(60_000)
    assert code == "UNKNOWN" and "431" in details
    assert target.client.outcomes([(demo_image, [QUESTION])])[0, 0].token_ids == target.expected
    # The server does not read this amount. The client connects again.
    assert send_metadata(1_000_000)[0] == "UNAVAILABLE"
    assert target.client.outcomes([(demo_image, [QUESTION])])[0, 0].token_ids == target.expected


def test_excess_streams_on_connection_are_rejected(target, demo_image):
    with connection(target) as opened:
        limit = opened.h2.remote_settings.max_concurrent_streams
        assert limit <= 1000
        for _ in range(limit):
            opened.ask(end=False)
        # A client that respects the limit stops. The next requests ignore it.
        with pytest.raises(h2.exceptions.TooManyStreamsError):
            opened.ask(end=False)
        opened.h2.remote_settings.max_concurrent_streams = 20_000
        opened.h2.remote_settings.acknowledge()
        for _ in range(10_000 - limit):
            if opened.closed:
                break
            opened.ask(end=False)
        # Streams above the limit are rejected, or the connection is closed.
        metrics = Metrics(target)
        assert metrics.value("blip_requests_in_flight", protocol="grpc") <= limit
        opened.read_until((h2.events.StreamReset, h2.events.ConnectionTerminated))
        assert opened.closed or opened.refused_streams


def test_rapidly_reset_streams_are_released(target, demo_image):
    body = request_bytes(target, demo_image)
    with connection(target) as opened:
        opened.h2.remote_settings.max_concurrent_streams = 20_000
        opened.h2.remote_settings.acknowledge()
        for _ in range(5000):
            if opened.closed:
                break
            opened.reset(opened.ask(body, end=False))
        # The server still responds, or it has closed the connection.
        assert opened.answers_ping() or opened.closed


def test_silent_connection_is_closed(target):
    host, port = target.address.rsplit(":", 1)
    for data in (b"", b"PRI * HTTP/2.0\r\n"):
        with socket.create_connection((host, int(port)), timeout=30) as silent:
            silent.sendall(data)
            with contextlib.suppress(ConnectionError):
                while silent.recv(1024):
                    pass


def test_incomplete_request_message_times_out(target, demo_image):
    body = request_bytes(target, demo_image)
    for part in (b"", body[:3], body[: len(body) // 2]):
        with connection(target) as opened:
            stream = opened.ask(part, end=False)
            headers = dict(opened.read_until(h2.events.ResponseReceived, stream).headers)
            assert headers[b"grpc-status"] == b"4"
            assert headers[b"grpc-message"].replace(b"%20", b" ").startswith(b"request upload idle for ")


def test_unread_responses_do_not_affect_other_clients(target, demo_image):
    request = target.client.request([(demo_image, [f"is {n} there?" for n in range(400)])])
    body = grpc_message(request.SerializeToString())
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            opened = stack.enter_context(connection(target))
            for _ in range(4):
                opened.ask(body)
        assert target.connect().outcomes([(demo_image, [QUESTION])])[0, 0].token_ids == target.expected


def test_disconnected_clients_leave_no_state(target, demo_image):
    body = request_bytes(target, demo_image)
    for cut in range(0, len(body), max(1, len(body) // 50)):
        with connection(target) as opened:
            opened.ask(body[:cut], end=False)


def test_non_http2_connection_is_closed(target):
    host, port = target.address.rsplit(":", 1)
    for data in (
        b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
        os.urandom(4096),
    ):
        with socket.create_connection((host, int(port)), timeout=30) as opened:
            with contextlib.suppress(ConnectionError):
                opened.sendall(data)
                while opened.recv(65_536):
                    pass


class RebindingDns:
    """A name server that answers 127.0.0.2 the first time and 127.0.0.1 afterwards."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.answers = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, client = self.socket.recvfrom(512)
                self.socket.sendto(self.answer(query), client)

    def answer(self, query):
        end = query.index(b"\0", 12) + 5
        if query[end - 4 : end - 2] != b"\0\1":
            # There is no IPv6 address.
            return query[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + query[12:end]
        address = "127.0.0.1" if self.answers else "127.0.0.2"
        self.answers.append(address)
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address)
        return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + record


def test_dns_rebinding_is_rejected(demo_image, tmp_path):
    """Uses a real name server, which the server finds in a separate mount namespace."""
    if (
        os.geteuid() != 0
        or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("requires the permission to create mount namespaces")
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.53\noptions timeout:5 attempts:1\n")
    dns = RebindingDns("127.0.0.53")
    allowed, secret = ImageServer(demo_image, "127.0.0.2"), ImageServer(demo_image, "127.0.0.1")
    wrapper = tmp_path / "in-namespace"
    mount = f"mount --bind {resolv} $(readlink -f /etc/resolv.conf)"
    wrapper.write_text(
        f'#!/bin/sh\nexec unshare --mount sh -c \'{mount} && exec "$0" "$@"\' {os.environ["BLIP_SERVE_BIN"]} "$@"\n'
    )
    wrapper.chmod(0o755)
    ports = f"{allowed.port},{secret.port}"
    options = (
        "--fetch-allow-networks",
        "127.0.0.2/32",
        "--fetch-allow-ports",
        ports,
        "--fetch-cache-bytes",
        "0",
    )
    server = Server(*options, program_path=str(wrapper))
    try:
        first, *rest = [
            server.client.outcomes([(f"http://rebind.example:{port}/image", [QUESTION])])[0, 0]
            for port in (allowed.port, secret.port, secret.port)
        ]
        assert first.text
        for error in rest:
            assert_documented(error, "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED")
        assert dns.answers[0] == "127.0.0.2" and "127.0.0.1" in dns.answers
        assert (allowed.paths, secret.paths) == (["/image"], [])
    finally:
        server.stop()
        dns.socket.close()
        allowed.stop()
        secret.stop()


def test_connection_age_limit_closes_old_connection(start, demo_image):
    server = start("--max-connection-age-s", "1", "--max-connection-age-grace-s", "1")
    with RawConnection(server.address) as old:
        # It answers no ping, so that only the age limit can close it.
        assert old.first(GOAWAY) is not None
        assert old.first(DATA) is None
        assert not old.is_open
    assert server.connect().outcomes([(demo_image, [QUESTION])])[0, 0].text
