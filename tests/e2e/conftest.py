"""Starts the built program; BLIP_SERVE_BIN names it."""

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
READY = re.compile(r"blip-serve \S+ ready: grpc https?://(\S+), http (https?://\S+), metrics (http://\S+), model (.+), device (\S+), dtype (\S+), loaded in [\d.]+ s$")


def program():
    return os.environ["BLIP_SERVE_BIN"]


class Server:
    """A running `blip-serve serve` on a free port, ready to answer. Its log goes to the file `log`, if one is named. It computes every
    answer, whatever was asked before, unless it is to keep them, as it does by default."""

    def __init__(self, *options, connect=True, listen="127.0.0.1:0", program_path=None, environment=None, log=None, keep_answers=False):
        # So small a model runs slower on several threads, and far slower beside other work.
        here = ["--device", "cpu", "--engine-threads", "1", "--grpc-listen", listen,
                "--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        command = [program_path or program(), "serve", *here, *options]
        with contextlib.ExitStack() as open_files:
            stderr = open_files.enter_context(open(log, "wb")) if log else None
            memory = {} if keep_answers else {"BLIP_SERVE__MODEL__ANSWER_CACHE_BYTES": "0"}
            variables = {**os.environ, **memory, **(environment or {})}
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=variables)
        self.clients = []
        line = self.process.stdout.readline()
        ready = READY.match(line.strip())
        if not ready:
            self.stop()
            raise AssertionError(f"{command} said {line!r} and ended with {self.process.returncode}")
        self.address, self.http, self.metrics, self.model, self.device, self.dtype = ready.groups()
        self.client = self.connect() if connect else None

    def connect(self, **options):
        """A client with a connection of its own; see Client."""
        self.clients.append(Client(self.address, **options))
        return self.clients[-1]

    def peak_memory_bytes(self):
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
    """A server of the demo model with default settings, for tests that leave it as it was."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def start():
    """Starts servers of one's own."""
    servers = []

    def start(*options, **kwargs):
        servers.append(Server(*options, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def picture():
    """A picture that the demo model was made for."""
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
def web(picture):
    server = ImageServer(picture)
    yield server
    server.stop()


@pytest.fixture
def fetching(start, web):
    """Starts servers that may fetch from 127.0.0.1 on port 80 and the port of `web`, and nowhere else inside."""

    def launch(*options, **kwargs):
        return start("--fetch-allow-networks", "127.0.0.1/32", "--fetch-allow-ports", f"80,{web.port}", *options, **kwargs)

    return launch
