"""A low-level HTTP/2 client, for requests that no regular client sends."""

import contextlib
import socket

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

TIMEOUT_S = 30


class Connection:
    """A connection that can send anything and reads only on request.

    `source` is the address that it comes from. `connected` is a socket to use instead.
    """

    def __init__(self, address, source=None, connected=None):
        host, port = address.rsplit(":", 1)
        source = (source, 0) if source else None
        self.socket = connected or socket.create_connection(
            (host, int(port)), timeout=TIMEOUT_S, source_address=source
        )
        config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.closed = False
        self.refused_streams = 0
        # The streams whose response has begun.
        self.answered = {}
        self.flush()
        # The server's settings come first. They include its limit of streams.
        self.read_until(h2.events.RemoteSettingsChanged)

    def flush(self):
        try:
            self.socket.sendall(self.h2.data_to_send())
        except OSError:
            self.closed = True

    def ask(self, body=b"", end=True, extra=()):
        """Starts a call of Ask with these bytes as its body. Returns the id of the stream."""
        headers = [("content-type", "application/grpc"), ("te", "trailers"), *extra]
        return self.request("POST", "/blip.v1.BlipService/Ask", body, headers, end, authority="test")

    def request(self, method, path, body=b"", headers=(), end=True, authority="localhost"):
        """Starts a request. Returns the id of the stream."""
        stream = self.h2.get_next_available_stream_id()
        target = [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority)]
        self.h2.send_headers(stream, [*target, *headers])
        while body and not self.closed:
            size = min(16_384, len(body), self.h2.local_flow_control_window(stream))
            if size == 0:
                self.events()
                continue
            self.h2.send_data(stream, body[:size])
            self.flush()
            body = body[size:]
        if end and not self.closed:
            self.h2.end_stream(stream)
        self.flush()
        return stream

    def close_windows(self):
        """Sets the window of all later streams to 0, so that the server cannot send a body."""
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        self.flush()

    def open_window(self, stream, size=65_535):
        self.h2.increment_flow_control_window(size, stream)
        self.flush()

    def reset(self, stream):
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    def events(self):
        """Returns the next events, or none after the server has closed the connection."""
        try:
            data = self.socket.recv(65_536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return []
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, h2.events.ResponseReceived):
                self.answered[event.stream_id] = dict(event.headers)
        self.flush()
        return events

    def read_until(self, kind, stream=None):
        """Reads until an event of a kind (on a stream).

        Returns it, or None if the connection ends.
        """
        while not self.closed:
            for event in self.events():
                if isinstance(event, h2.events.StreamReset):
                    self.refused_streams += event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
                if isinstance(event, h2.events.ConnectionTerminated):
                    self.closed = True
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    return event
        return None

    def answers_ping(self):
        """Returns whether the server answers a ping."""
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.h2.ping(b"answered")
        self.flush()
        return self.read_until(h2.events.PingAckReceived) is not None

    def close(self):
        self.socket.close()


def grpc_message(message):
    """Returns a gRPC frame."""
    return b"\0" + len(message).to_bytes(4, "big") + message
