"""What an attack knows of the server, and raw connections from the attacker's address."""

import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))
import raw_http2  # noqa: E402

# The server counts a peer by its address. The honest client is on 127.0.0.1.
ATTACKER = "127.0.0.2"
TIMEOUT_S = 30


@dataclass
class Target:
    """The addresses of the server, and how long the attack lasts.

    The server may fetch from `fetch_host` at `fetch_port`.
    """

    grpc: str
    http: str
    metrics: str
    fetch_host: str
    fetch_port: int
    seconds: float
    sent: object
    """The number of bytes sent, shared with the process that started the attack."""

    def begin(self):
        """Starts the time of the attack."""
        self.end = time.monotonic() + self.seconds

    @property
    def left_s(self):
        return self.end - time.monotonic()

    def count(self, sent_bytes):
        with self.sent.get_lock():
            self.sent.value += sent_bytes

    @property
    def is_over(self):
        return self.left_s <= 0

    def wait(self, seconds=None):
        """Waits for the end of the attack, or for `seconds` if that is sooner."""
        left = max(0.0, self.left_s)
        time.sleep(left if seconds is None else min(left, seconds))

    def socket(self, address):
        """Returns a TCP connection whose sent bytes are counted."""
        host, port = address.rsplit(":", 1)
        connection = CountedSocket(self)
        connection.settimeout(TIMEOUT_S)
        connection.bind((ATTACKER, 0))
        connection.connect((host, int(port)))
        return connection

    def http2(self, address):
        """Returns a raw HTTP/2 connection."""
        return raw_http2.Connection(address, connected=self.socket(address))

    def repeat(self, action, threads):
        """Repeats `action` in threads until the attack is over. Lost connections are expected."""

        def run():
            while not self.is_over:
                try:
                    action()
                except (OSError, raw_http2.h2.exceptions.H2Error):
                    self.wait(0.05)

        running = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
        for thread in running:
            thread.start()
        self.wait()


class CountedSocket(socket.socket):
    """A TCP socket that adds the bytes that it sends to a target's count."""

    def __init__(self, target):
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.target = target

    def sendall(self, data):
        super().sendall(data)
        self.target.count(len(data))
