"""HTTP/2 frames without a library that keeps the rules, for clients that break them."""

import socket
import struct

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 2, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS = 0x1, 0x4
INITIAL_WINDOW_SIZE = 4
TIMEOUT_S = 30


def frame(kind, stream, payload=b"", flags=0):
    """Returns a frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def setting(identifier, value):
    """Returns a SETTINGS frame with one setting."""
    return frame(SETTINGS, 0, struct.pack(">HI", identifier, value))


class RawConnection:
    """A connection that sends any frames.

    The server's frames are read on request.
    """

    def __init__(self, address, settings=b""):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.next_stream = 1
        self.received = b""
        self.is_open = True
        self.send(PREFACE + (settings or frame(SETTINGS, 0)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Sends bytes, unless the server has closed the connection."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.is_open = False

    def headers(self, path, end=False, method="POST", extra=()):
        """Returns a new stream and the HEADERS frame of a call on it."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        headers = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        replaced = {name for name, _ in extra}
        headers = [(name, value) for name, value in headers if name not in replaced]
        headers += [(name, value) for name, value in extra if value is not None]
        flags = END_HEADERS | (END_STREAM if end else 0)
        return stream, frame(HEADERS, stream, self.encoder.encode(headers), flags)

    def frames(self):
        """Yields (kind, flags, stream, payload) of the server's frames until it closes."""
        while True:
            while len(self.received) < 9 or len(self.received) < 9 + self.payload_bytes():
                try:
                    data = self.socket.recv(65_536)
                except ConnectionError:
                    data = b""
                if not data:
                    self.is_open = False
                    return
                self.received += data
            length = self.payload_bytes()
            kind, flags, stream = self.received[3], self.received[4], self.received[5:9]
            payload, self.received = self.received[9 : 9 + length], self.received[9 + length :]
            if kind == SETTINGS and not flags:
                self.send(frame(SETTINGS, 0, flags=1))
            yield kind, flags, int.from_bytes(stream, "big"), payload

    def payload_bytes(self):
        return int.from_bytes(self.received[:3], "big")

    def first(self, kind, stream=0):
        """Returns the payload of the next frame of a kind on a stream, or None at the end."""
        return next((payload for found, _, on, payload in self.frames() if (found, on) == (kind, stream)), None)

    def call(self, path, body=b"", **options):
        """Sends a request. Returns the headers and trailers of its response as one dictionary."""
        stream, headers = self.headers(path, end=not body, **options)
        self.send(headers + (frame(DATA, stream, body, END_STREAM) if body else b""))
        return self.response(stream)

    def response(self, stream):
        """Returns the headers and trailers of a response as one dictionary."""
        fields = {}
        for kind, flags, on, payload in self.frames():
            if kind == HEADERS:
                found = self.decoder.decode(payload)
                fields.update(found if on == stream else ())
            if (on == stream and flags & END_STREAM and kind in (DATA, HEADERS)) or kind == RST_STREAM:
                return fields
        raise AssertionError(f"the server closed the connection after {fields}")
