"""Server processes that can be stopped, killed and restarted at the same address."""

import os
import random
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO_IMAGE = ROOT / "models/demo/demo.png"
TIMEOUT_S = 60


def free_port():
    """Returns a port below those of outgoing connections, so that it is free after a restart."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Server:
    """A `blip-serve serve` process on a reserved port. It computes each answer."""

    def __init__(self, *options):
        self.port, self.metrics_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.options = options
        self.process = None

    def start(self):
        command = [os.environ["BLIP_SERVE_BIN"], "serve", "--device", "cpu", "--engine-threads", "1"]
        command += ["--grpc-listen", self.address, "--http-listen", "off"]
        command += ["--metrics-listen", f"127.0.0.1:{self.metrics_port}"]
        command += ["--answer-cache-bytes", "0", *map(str, self.options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert " ready: " in line, f"{command} printed {line!r}"
        return self

    def pause(self):
        """Stops the process. Its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def drain(self):
        """Asks the process to end, and waits until it has."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(TIMEOUT_S) == 0
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def restart(self):
        self.kill()
        self.start()

    def metric(self, name, label=""):
        """Returns the sum of all series with this name and label."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=TIMEOUT_S
        ) as page:
            lines = page.read().decode().splitlines()
        selected = [line for line in lines if line.split("{")[0].split(" ")[0] == name and label in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in selected)
