"""Fixtures: servers of the demo models, and what their native API answers."""

import base64
import os
import re
import subprocess
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
MODELS = "demo,demo-caption,demo-match"
READY = re.compile(r" ready: grpc https?://(\S+), http (https?://\S+), metrics (http://\S+), ")
TIMEOUT_S = 60
KEY = "correct-horse-battery"

COUNT, SQUARE = "how many things are in the image?", "is there a square?"
TEXTS = ["a red triangle", "two blue circles", "five green squares"]


class Server:
    """A `blip-serve serve` process on free ports. It computes each answer."""

    def __init__(self, *options, environment=None):
        command = [os.environ["BLIP_SERVE_BIN"], "serve", "--device", "cpu", "--engine-threads", "1"]
        command += ["--grpc-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        command += ["--answer-cache-bytes", "0", *options]
        if not environment:
            command += ["--http-listen", "127.0.0.1:0"]
        variables = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables)
        line = self.process.stdout.readline()
        ready = READY.search(line)
        assert ready, f"{command} printed {line!r}"
        self.grpc, self.http, self.metrics = ready.groups()

    def post(self, path, **options):
        return requests.post(f"{self.http}{path}", timeout=TIMEOUT_S, **options)

    def get(self, path, **options):
        return requests.get(f"{self.http}{path}", timeout=TIMEOUT_S, **options)

    def native(self, path, **payload):
        """Returns the response of a native route."""
        response = self.post(path, json=payload)
        assert response.status_code == 200, response.text
        return response.json()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Native:
    """What the native API answers about the demo image."""

    def __init__(self, server, image):
        self.server, self.images = server, [{"base64": base64.b64encode(image).decode()}]

    def ask(self, *questions, **fields):
        """Returns the answers, each with its details."""
        inputs = {"texts": [list(questions)], "images": self.images}
        [answers] = self.server.native("/v1/ask", inputs=inputs, details=True, **fields)["captions"]
        return list(zip(answers["image_results"], answers["details"]))

    def caption(self, *prompts):
        inputs = {"texts": [list(prompts)] if prompts else None, "images": self.images}
        [captions] = self.server.native("/v1/caption", inputs=inputs)["captions"]
        return captions["image_results"]

    def match(self, *texts):
        inputs = {"texts": [list(texts)], "images": self.images}
        return self.server.native("/v1/match", inputs=inputs)["matches"][0]["image_results"]

    def embed(self, *texts):
        return self.server.native("/v1/embed", inputs={"texts": list(texts), "images": self.images})


@pytest.fixture(scope="session")
def demo():
    """A server of the demo models, for tests that do not change its state."""
    server = Server("--model", MODELS)
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
    """The bytes of the bundled image."""
    return (ROOT / "models/demo/demo.png").read_bytes()


@pytest.fixture(scope="session")
def data_url(demo_image):
    """The bundled image as a URL."""
    return f"data:image/png;base64,{base64.b64encode(demo_image).decode()}"


@pytest.fixture(scope="session")
def native(demo, demo_image):
    """The native API of the server of the demo models."""
    return Native(demo, demo_image)
