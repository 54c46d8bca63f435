"""HTTP/2 by hand, for what no well-behaved client does."""

import contextlib
import socket

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

PATIENCE_S = 30


class Connection:
    """One connection over which anything can be sent; what comes back is read on request only."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.closed = False
        self.refused = 0
        self.flush()
        # The server's own settings come first, and with them how many streams it takes.
        self.read_until(h2.events.RemoteSettingsChanged)

    def flush(self):
        try:
            self.socket.sendall(self.h2.data_to_send())
        except OSError:
            self.closed = True

    def ask(self, body=b"", end=True, extra=()):
        """A call of Ask with these bytes as its body; returns the stream's number."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [
            (":method", "POST"), (":scheme", "http"), (":path", "/blip.v1.BlipService/Ask"), (":authority", "test"),
            ("content-type", "application/grpc"), ("te", "trailers"), *extra,
        ])
        while body and not self.closed:
            room = min(16_384, self.h2.local_flow_control_window(stream))
            if room == 0:
                self.events()
                continue
            self.h2.send_data(stream, body[:room])
            self.flush()
            body = body[room:]
        if end and not self.closed:
            self.h2.end_stream(stream)
        self.flush()
        return stream

    def leave_no_room(self):
        """No stream that comes after this may be sent a byte of a body."""
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        self.flush()

    def give_room(self, stream, size=65_535):
        self.h2.increment_flow_control_window(size, stream)
        self.flush()

    def reset(self, stream):
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    def events(self):
        """The next events, none once the server has closed the connection."""
        try:
            data = self.socket.recv(65_536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return []
        events = self.h2.receive_data(data)
        self.flush()
        return events

    def read_until(self, kind, stream=None):
        """Reads up to an event of this kind (on this stream) and returns it; None if the connection ends first."""
        while not self.closed:
            for event in self.events():
                if isinstance(event, h2.events.StreamReset):
                    self.refused += event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
                if isinstance(event, h2.events.ConnectionTerminated):
                    self.closed = True
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    return event
        return None

    def answers_ping(self):
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.h2.ping(b"answered")
        self.flush()
        return self.read_until(h2.events.PingAckReceived) is not None

    def close(self):
        self.socket.close()


def grpc_message(message):
    return b"\0" + len(message).to_bytes(4, "big") + message
