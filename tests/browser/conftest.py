"""Fixtures: servers, and pages of Chromium that may load nothing from other servers."""

import base64
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs/images"
MAX_IMAGE_BYTES = 400_000
MODELS = "demo,demo-caption,demo-match"
READY = re.compile(r" ready: grpc \S+, http (http://\S+), ")
TIMEOUT_S = 60
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Reports what the content security policy of a page forbids.
REPORT_VIOLATIONS = """addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    console.error(`violation of ${violatedDirective}: ${blockedURI}`));"""
# The browser logs every response with an error status and every lost connection.
EXPECTED_ERROR = "Failed to load resource: "

expect.set_options(timeout=TIMEOUT_S * 1000)


class Server:
    """A `blip-serve serve` process on free ports. It computes each answer."""

    def __init__(self, *options):
        command = [os.environ["BLIP_SERVE_BIN"], "serve", "--device", "cpu", "--engine-threads", "1"]
        command += ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--metrics-listen", "off"]
        command += ["--answer-cache-bytes", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        ready = READY.search(line)
        assert ready, f"{command} printed {line!r}"
        self.http = ready[1]

    def post(self, path, image, texts=None, **fields):
        """Returns the response to a request about one image."""
        inputs = {"images": [image], **({} if texts is None else {"texts": [texts]})}
        payload = {"inputs": inputs, "details": True, **fields}
        response = requests.post(f"{self.http}{path}", json=payload, timeout=TIMEOUT_S)
        assert response.status_code == 200, response.text
        return response.json()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


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

    def start(*options):
        servers.append(Server(*options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def browser():
    """Chromium with a new profile."""
    with sync_playwright() as playwright:
        # Without a folder for its profile, Playwright creates a new one.
        browser = playwright.chromium.launch(executable_path=os.environ["BLIP_CHROMIUM"], args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """A function that opens a path of a server in a new page.

    After the test, no page may have thrown an error, violated its policy or requested another
    server.
    """
    contexts, faults = [], []

    def open_page(server, path="/", **options):
        context = browser.new_context(**options)
        context.add_init_script(REPORT_VIOLATIONS)
        contexts.append(context)
        page = context.new_page()
        page.requests = []

        def record(request):
            page.requests.append(request)
            if urlsplit(request.url).scheme != "data" and not request.url.startswith(f"{server.http}/"):
                faults.append(f"request to {request.url}")

        page.on("request", record)
        page.on("pageerror", lambda error: faults.append(f"error {error}"))
        page.on("console", lambda message: faults.append(message.text) if is_fault(message) else None)
        page.goto(f"{server.http}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def is_fault(message):
    return message.type == "error" and not message.text.startswith(EXPECTED_ERROR)


@pytest.fixture(scope="session")
def image_file():
    """The path of the bundled image."""
    return ROOT / "models/demo/demo.png"


@pytest.fixture(scope="session")
def image(image_file):
    """The bundled image in a request."""
    return {"base64": base64.b64encode(image_file.read_bytes()).decode()}


@pytest.fixture
def screenshot():
    """A function that writes a screenshot into docs/images if UPDATE_IMAGES is set."""

    def screenshot(page, name, **options):
        path = IMAGES / name
        if os.environ.get("UPDATE_IMAGES"):
            page.screenshot(path=path, animations="disabled", **options)
        assert 0 < path.stat().st_size < MAX_IMAGE_BYTES

    return screenshot
