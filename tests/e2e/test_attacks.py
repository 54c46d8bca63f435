"""What an attacker would try. Each row is a real request to one running server, which answers the next honest one right
and whose memory stays bounded over the whole table."""

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
from raw_http2 import Connection, grpc_message
from test_metrics import Metrics
from test_request_errors import MIB, assert_documented, png_header

QUESTION = "how many circles are in the picture?"
MAX_EXTRA_BYTES = 300 * MIB


@pytest.fixture(scope="module")
def target(picture):
    """A server under attack, with what it answers to an honest question. Connections are given up quickly."""
    server = Server("--handshake-timeout-s", "1", "--upload-stall-s", "1")
    server.honest = server.client.outcomes([(picture, [QUESTION])])[0, 0].token_ids
    server.idle_bytes = server.peak_memory_bytes()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def unharmed(target, picture):
    """After each attack: an honest question on a new connection is answered as before, and memory is in bounds."""
    yield
    honest = target.connect()
    assert honest.outcomes([(picture, [QUESTION])])[0, 0].token_ids == target.honest
    assert target.peak_memory_bytes() - target.idle_bytes < MAX_EXTRA_BYTES


def lzw_gif(width, height, frames=1):
    """A GIF that claims a size; every frame is one white pixel."""
    frame = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"


def tiff(width, height, compression=1):
    """A little-endian TIFF of one strip that claims a size and holds 8 bytes."""
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 8),
    ]
    fields = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(entries)) + fields + bytes(4)


def bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + header + bytes(64)


def webp(width, height):
    """A lossless WebP that claims a size: 14 bits each way."""
    bits = 0x2F | (width - 1) << 8 | (height - 1) << 22
    data = bits.to_bytes(5, "little") + bytes(32)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def zip_bomb_png(side):
    """A true PNG whose pixels are all alike: a thousandth of them in bytes."""

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
    "tiff whose strip is not there": (tiff(4000, 4000), "IMAGE_UNREADABLE"),
    "bmp of 4 gigapixels": (bmp(65_535, 65_535), "IMAGE_TOO_MANY_PIXELS"),
    "webp of 256 megapixels": (webp(16_000, 16_000), "IMAGE_TOO_MANY_PIXELS"),
    "svg": (b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg>&a;</svg>", "IMAGE_FORMAT_UNKNOWN"),
    "page with a picture behind it": (b"<html>" + png_header(1, 1), "IMAGE_FORMAT_UNKNOWN"),
    "zip with a picture in it": (b"PK\3\4" + png_header(1, 1), "IMAGE_FORMAT_UNKNOWN"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_claims_more_than_it_may_is_refused_by_its_header(target, name):
    image, reason = BOMBS[name]
    assert len(image) < 500_000
    for refusal in target.client.outcomes([(image, [QUESTION])] * 8).values():
        assert_documented(refusal, "INVALID_ARGUMENT", reason)


def test_of_ten_thousand_frames_only_the_first_is_decoded(target):
    outcome = target.client.outcomes([(lzw_gif(1, 1, frames=10_000), [QUESTION])])[0, 0]
    alone = target.client.outcomes([(lzw_gif(1, 1), [QUESTION])])[0, 0]
    assert outcome.token_ids == alone.token_ids


def test_what_follows_a_picture_is_not_looked_at(target, picture):
    for tail in (b"<script>alert(1)</script>", b"PK\3\4" + bytes(1000), lzw_gif(65_535, 65_535)):
        assert target.client.outcomes([(picture + tail, [QUESTION])])[0, 0].token_ids == target.honest


def test_a_jpeg_cut_at_any_percent_is_refused_or_is_whole(target):
    file = (ROOT / "crates/images/tests/pillow/jpeg_420_progressive.jpeg").read_bytes()
    whole = target.client.outcomes([(file, [QUESTION])])[0, 0]
    cuts = [file[: len(file) * percent // 100] for percent in range(1, 100)]
    for begin in range(0, len(cuts), 50):
        batch = cuts[begin : begin + 50]
        outcomes = target.client.outcomes([(cut, [QUESTION]) for cut in batch])
        for (index, _), outcome in outcomes.items():
            # A file without its last marker alone holds all of its pixels.
            if hasattr(outcome, "token_ids"):
                assert len(batch[index]) >= len(file) - 2 and outcome.token_ids == whole.token_ids
            else:
                assert outcome.reason in ("IMAGE_UNREADABLE", "IMAGE_FORMAT_UNKNOWN"), index
                assert_documented(outcome, "INVALID_ARGUMENT", outcome.reason)


@contextlib.contextmanager
def connection(target):
    opened = Connection(target.address)
    yield opened
    opened.close()


def request_bytes(target, picture):
    return grpc_message(target.client.request([(picture, [QUESTION])]).SerializeToString())


def test_giant_metadata_is_refused_and_the_connection_lives(target, picture):
    def refused(length):
        with pytest.raises(grpc.RpcError) as refused:
            target.client.method("grpc.health.v1.Health", "Check")(
                target.client.type("grpc.health.v1.HealthCheckRequest")(), metadata=[("x-giant", "a" * length)]
            )
        return refused.value.code().name, refused.value.details()

    # HTTP's own status for it, which gRPC has no code for.
    code, details = refused(60_000)
    assert code == "UNKNOWN" and "431" in details
    assert target.client.outcomes([(picture, [QUESTION])])[0, 0].token_ids == target.honest
    # So much is not even read; the client connects anew.
    assert refused(1_000_000)[0] == "UNAVAILABLE"
    assert target.client.outcomes([(picture, [QUESTION])])[0, 0].token_ids == target.honest


def test_ten_thousand_streams_on_one_connection_are_not_taken(target, picture):
    with connection(target) as opened:
        limit = opened.h2.remote_settings.max_concurrent_streams
        assert limit <= 1000
        for _ in range(limit):
            opened.ask(end=False)
        # A client that minds the limit stops here, and one that does not is told off.
        with pytest.raises(h2.exceptions.TooManyStreamsError):
            opened.ask(end=False)
        opened.h2.remote_settings.max_concurrent_streams = 20_000
        opened.h2.remote_settings.acknowledge()
        for _ in range(10_000 - limit):
            if opened.closed:
                break
            opened.ask(end=False)
        # Not one stream beyond the limit is answered: each is refused, or the connection has been ended for it.
        metrics = Metrics(target)
        assert metrics.value("blip_requests_in_flight", protocol="grpc") <= limit
        opened.read_until((h2.events.StreamReset, h2.events.ConnectionTerminated))
        assert opened.closed or opened.refused


def test_streams_that_are_reset_at_once_are_given_up(target, picture):
    body = request_bytes(target, picture)
    with connection(target) as opened:
        opened.h2.remote_settings.max_concurrent_streams = 20_000
        opened.h2.remote_settings.acknowledge()
        for _ in range(5000):
            if opened.closed:
                break
            opened.reset(opened.ask(body, end=False))
        # The server has kept up with it, or has ended the connection.
        assert opened.answers_ping() or opened.closed


def test_a_client_that_opens_a_connection_and_says_nothing_is_closed(target):
    host, port = target.address.rsplit(":", 1)
    for words in (b"", b"PRI * HTTP/2.0\r\n"):
        with socket.create_connection((host, int(port)), timeout=30) as silent:
            silent.sendall(words)
            with contextlib.suppress(ConnectionError):
                while silent.recv(1024):
                    pass


def test_a_client_that_never_sends_its_message_is_told_so(target, picture):
    body = request_bytes(target, picture)
    for part in (b"", body[:3], body[: len(body) // 2]):
        with connection(target) as opened:
            stream = opened.ask(part, end=False)
            headers = dict(opened.read_until(h2.events.ResponseReceived, stream).headers)
            assert headers[b"grpc-status"] == b"4"
            assert b"stood%20still" in headers[b"grpc-message"] or b"stood still" in headers[b"grpc-message"]


def test_clients_that_never_read_hold_back_only_themselves(target, picture):
    request = target.client.request([(picture, [f"is {n} there?" for n in range(400)])])
    body = grpc_message(request.SerializeToString())
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            opened = stack.enter_context(connection(target))
            for _ in range(4):
                opened.ask(body)
        assert target.connect().outcomes([(picture, [QUESTION])])[0, 0].token_ids == target.honest


def test_clients_that_vanish_in_the_middle_leave_nothing_behind(target, picture):
    body = request_bytes(target, picture)
    for cut in range(0, len(body), max(1, len(body) // 50)):
        with connection(target) as opened:
            opened.ask(body[:cut], end=False)


def test_what_is_no_http2_is_closed(target):
    host, port = target.address.rsplit(":", 1)
    for words in (b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), os.urandom(4096)):
        with socket.create_connection((host, int(port)), timeout=30) as opened:
            with contextlib.suppress(ConnectionError):
                opened.sendall(words)
                while opened.recv(65_536):
                    pass


class RebindingDns:
    """A name server that says 127.0.0.2 the first time, and 127.0.0.1 from then on."""

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
            # No IPv6.
            return query[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + query[12:end]
        address = "127.0.0.1" if self.answers else "127.0.0.2"
        self.answers.append(address)
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address)
        return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + record


def test_a_name_that_changes_its_address_leads_only_where_it_was_checked(picture, tmp_path):
    """Through a real name server, which is the server's own in a namespace of its own."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to give a process a resolv.conf of its own")
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.53\noptions timeout:5 attempts:1\n")
    dns = RebindingDns("127.0.0.53")
    allowed, secret = ImageServer(picture, "127.0.0.2"), ImageServer(picture, "127.0.0.1")
    wrapper = tmp_path / "in-namespace"
    mount = f"mount --bind {resolv} $(readlink -f /etc/resolv.conf)"
    wrapper.write_text(f'#!/bin/sh\nexec unshare --mount sh -c \'{mount} && exec "$0" "$@"\' {os.environ["BLIP_SERVE_BIN"]} "$@"\n')
    wrapper.chmod(0o755)
    ports = f"{allowed.port},{secret.port}"
    options = ("--fetch-allow-networks", "127.0.0.2/32", "--fetch-allow-ports", ports, "--fetch-cache-bytes", "0")
    server = Server(*options, program_path=str(wrapper))
    try:
        first, *rest = [
            server.client.outcomes([(f"http://rebind.example:{port}/picture", [QUESTION])])[0, 0]
            for port in (allowed.port, secret.port, secret.port)
        ]
        assert first.text
        for refusal in rest:
            assert_documented(refusal, "INVALID_ARGUMENT", "URL_ADDRESS_REFUSED")
        assert dns.answers[0] == "127.0.0.2" and "127.0.0.1" in dns.answers
        assert (allowed.paths, secret.paths) == (["/picture"], [])
    finally:
        server.stop()
        dns.socket.close()
        allowed.stop()
        secret.stop()


def test_an_old_connection_is_told_to_go_away_and_calls_on_a_new_one_are_answered(start, picture):
    server = start("--max-connection-age-s", "1", "--max-connection-age-grace-s", "1")
    old = Connection(server.address)
    old.read_until(h2.events.StreamEnded)
    assert old.closed
    old.close()
    assert server.connect().outcomes([(picture, [QUESTION])])[0, 0].text
