"""The server on the stand-ins: clients, several devices, several models, reload and failures."""

import base64
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine import LIBTORCH_KERNELS, environment
from trace import Trace

DEMO = Path(__file__).resolve().parents[2] / "models/demo"
IMAGE = (DEMO / "demo.png").read_bytes()
READY = re.compile(r"ready: .*http (http://\S+), metrics .* device (\S+), dtype (\S+), loaded")
LOG_LINE = re.compile(r"^\S+\s+(ERROR|WARN|INFO) ")
EXIT_BROKEN_ENGINE = 4


class Server:
    """A running server. The answer cache is off, so that every question reaches an engine."""

    def __init__(self, folder, trace_path, *options, device="cuda:0", **stand_in):
        self.trace = Trace(trace_path)
        self.log = trace_path.with_suffix(".log")
        command = [os.environ["BLIP_SERVE_BIN"], "serve", "--device", device, "--dtype", "f16"]
        command += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
        command += ["--metrics-listen", "127.0.0.1:0", "--answer-cache-bytes", "0", *LIBTORCH_KERNELS, *options]
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment(folder, trace_path, **stand_in),
            )
        line = self.process.stdout.readline()
        ready = READY.search(line)
        assert ready, f"{line!r}: {self.log.read_text()}"
        self.url, self.device, self.dtype = ready.groups()
        self.trace.mark("ready")

    def post(self, path, body):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def ask(self, number, questions, model=None):
        """Asks questions about an image that differs for each number. Returns the answers."""
        # Decoders ignore data after the end of a PNG image.
        file = base64.b64encode(IMAGE + str(number).encode()).decode()
        body = {"inputs": {"texts": [questions], "images": [{"base64": file}]}}
        if model is not None:
            body["model"] = model
        reply = self.post("/v1/ask", body)
        assert "errors" not in reply, reply
        return reply["captions"][0]["image_results"]

    def load(self, requests, model=None):
        """Asks as many requests at once as 16 clients do, with questions of unequal lengths."""

        def one(number):
            words = ["is", "there", "a", "red", "circle", "in", "the", "middle", "?"]
            questions = [" ".join(words[: 2 + (number + index) % 8]) for index in range(1 + number % 5)]
            answers = self.ask(number % (requests // 2), questions, model)
            assert len(answers) == len(questions)

        with ThreadPoolExecutor(16) as clients:
            list(clients.map(one, range(requests)))

    def stop(self):
        """Stops the server. Returns the lines on standard error that are no lines of its log."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, self.log.read_text()
        return [line for line in self.log.read_text().splitlines() if not LOG_LINE.match(line)]


@pytest.fixture
def serve(stand_in, tmp_path):
    servers = []

    def serve(*options, **stand_in_options):
        path = tmp_path / f"server{len(servers)}.tsv"
        servers.append(Server(stand_in, path, *options, **stand_in_options))
        return servers[-1]

    yield serve
    for server in servers:
        server.process.kill()
        server.process.wait()
        server.process.stdout.close()


def work_since_ready(server):
    """Returns the products and graphs of clients."""
    return [event for event in server.trace.events_since("ready") if event.kind in ("product", "graph")]


def assert_sound(server):
    """Checks the rules of CUDA, that nothing was compiled for a client, and standard error."""
    assert server.trace.faults() == {}
    since_ready = {event.kind for event in server.trace.events_since("ready")}
    assert not since_ready & {"plan", "capture_begin"}
    assert server.stop() == []


@pytest.mark.parametrize("options", [["--cuda-graphs=false"], []], ids=["plain", "graphs"])
def test_server_answers_clients_without_faults(serve, options):
    server = serve(*options)
    assert (server.device, server.dtype) == ("cuda:0", "f16")
    server.load(120)
    assert work_since_ready(server), "the device had work"
    assert_sound(server)


def test_engines_on_two_devices_obey_the_rules(serve):
    server = serve("--engines", "2", devices=2)
    assert server.device == "cuda:0,cuda:1"
    server.load(200)
    assert {event.device for event in work_since_ready(server)} == {0, 1}
    assert_sound(server)


def test_engines_on_one_device_have_a_stream_each(serve):
    server = serve("--engines", "2")
    assert server.device == "cuda:0"
    server.load(200)
    assert len({event.stream for event in work_since_ready(server)}) == 2
    assert {event.device for event in work_since_ready(server)} == {0}
    assert_sound(server)


def test_model_replaced_under_load_breaks_no_rule(serve):
    server = serve("--admin", "--model", "demo=demo")
    with ThreadPoolExecutor(1) as clients:
        load = clients.submit(server.load, 150)
        server.post("/v1/models", {"name": "other", "source": "demo"})
        server.post("/v1/models", {"name": "demo", "source": "demo"})
        server.load(40, "other")
        load.result()
    assert server.trace.faults() == {}
    assert server.stop() == []


def test_lost_device_ends_the_process_with_its_exit_code(serve):
    first = serve("--cuda-graphs=false")
    first.load(20)
    products = sum(event.kind == "product" for event in first.trace.events())
    of_clients = sum(event.kind == "product" for event in first.trace.events_since("ready"))
    server = serve("--cuda-graphs=false", fail=f"product:{products - of_clients // 2}:700")
    with pytest.raises((urllib.error.URLError, ConnectionError, AssertionError)):
        for _ in range(100):
            server.load(20)
    assert server.process.wait(timeout=60) == EXIT_BROKEN_ENGINE, server.log.read_text()
