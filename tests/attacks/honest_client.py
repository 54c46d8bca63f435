"""An honest client: it asks about an image that the server has never seen, over and over."""

import itertools
import random
import struct
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

PAUSE_S = 0.1
TIMEOUT_S = 60
QUESTION = "how many circles are in the image?"


def new_image(number):
    """Returns a PNG of 96 x 96 random pixels, which differs for each number."""
    rows = b"".join(b"\0" + row.randbytes(96 * 3) for row in [random.Random(number)] * 96)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 96, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


class ImageSource:
    """A web server on loopback that returns the image of the number in the path."""

    def __init__(self):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = new_image(int(self.path.strip("/")))
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


class HonestClient:
    """Asks one question at a time and notes the latencies in ms, or the errors."""

    def __init__(self, client, url_prefix=None):
        self.client, self.url_prefix = client, url_prefix
        self.numbers = itertools.count(random.randrange(1 << 40))
        self.latencies, self.errors = [], []

    def ask(self):
        """Asks about a new image. Returns whether it was answered."""
        number = next(self.numbers)
        image = f"{self.url_prefix}{number}" if self.url_prefix else new_image(number)
        begin = time.monotonic()
        try:
            responses = list(self.client.ask([(image, [QUESTION])], timeout=TIMEOUT_S))
            errors = [r.error.message for r in responses if r.WhichOneof("outcome") == "error"]
        except grpc.RpcError as error:
            errors = [f"{error.code().name}: {error.details()}"]
        self.latencies.append((time.monotonic() - begin) * 1000)
        self.errors += errors
        return not errors

    def run_until(self, end):
        while time.monotonic() < end:
            self.ask()
            time.sleep(PAUSE_S)
        return self

    def quantile(self, share):
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
