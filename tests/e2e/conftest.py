"""Fixtures that start the built program, which BLIP_SERVE_BIN names."""

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from client import Client
from collector import GrpcCollector, HttpCollector
from image_server import ImageServer

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "crates/blip/tests/goldens"
READY = re.compile(
    r"blip-serve \S+ ready: grpc https?://(\S+), http (https?://\S+), metrics (http://\S+), "
    r"model (.+), device (\S+), dtype (\S+), loaded in [\d.]+ s$"
)


def program():
    """Returns the path of the program."""
    return os.environ["BLIP_SERVE_BIN"]


class Server:
    """A running `blip-serve serve` on a free port, ready to answer.

    Its log goes to the file `log`. The answer cache is off unless `cache_answers` is set.
    """

    def __init__(
        self,
        *options,
        connect=True,
        listen="127.0.0.1:0",
        program_path=None,
        environment=None,
        log=None,
        cache_answers=False,
    ):
        # A model of this size runs slower on several threads, in particular on a busy machine.
        defaults = ["--device", "cpu", "--engine-threads", "1", "--grpc-listen", listen]
        defaults += ["--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        command = [program_path or program(), "serve", *defaults, *options]
        with contextlib.ExitStack() as open_files:
            stderr = open_files.enter_context(open(log, "wb")) if log else None
            cache = {} if cache_answers else {"BLIP_SERVE__MODEL__ANSWER_CACHE_BYTES": "0"}
            variables = {**os.environ, **cache, **(environment or {})}
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=variables
            )
        self.clients = []
        line = self.process.stdout.readline()
        ready = READY.match(line.strip())
        if not ready:
            self.stop()
            raise AssertionError(f"{command} printed {line!r} and ended with {self.process.returncode}")
        self.address, self.http, self.metrics, self.model, self.device, self.dtype = ready.groups()
        self.client = self.connect() if connect else None

    def connect(self, **options):
        """Returns a client with a separate connection. See Client for the options."""
        self.clients.append(Client(self.address, **options))
        return self.clients[-1]

    def peak_memory_bytes(self):
        """Returns the peak resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024

    def stop(self):
        for client in self.clients:
            client.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def demo():
    """A server of the demo model with default settings, for tests that do not change its state."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def start():
    """A function that starts servers. They are stopped after the test."""
    servers = []

    def start(*options, **kwargs):
        servers.append(Server(*options, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def demo_image():
    """The bundled image of the demo model."""
    return (ROOT / "models/demo/demo.png").read_bytes()


@pytest.fixture
def collector():
    collector = GrpcCollector()
    yield collector
    collector.stop()


@pytest.fixture(params=[GrpcCollector, HttpCollector], ids=lambda kind: kind.protocol)
def either_collector(request):
    collector = request.param()
    yield collector
    collector.stop()


@pytest.fixture
def web(demo_image):
    server = ImageServer(demo_image)
    yield server
    server.stop()


@pytest.fixture
def fetching(start, web):
    """A function that starts servers that may fetch from 127.0.0.1 on port 80 and that of `web`."""

    def launch(*options, **kwargs):
        allowed = ("--fetch-allow-networks", "127.0.0.1/32", "--fetch-allow-ports", f"80,{web.port}")
        return start(*allowed, *options, **kwargs)

    return launch
