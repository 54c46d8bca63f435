"""Fixtures: servers, and clients of the demo models."""

import pytest
from blip_serve_client import Client
from servers import DEMO_IMAGE, Server


@pytest.fixture
def servers():
    """A function that creates servers. The tests start them."""
    created = []

    def make(count, *options):
        created.extend(Server(*options) for _ in range(count))
        return created[-count:]

    yield make
    for server in created:
        if server.process and server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="session")
def demo():
    """A server of the demo models, for tests that do not change its state."""
    server = Server("--model", "demo,demo-caption,demo-match").start()
    yield server
    server.kill()


@pytest.fixture
def client(demo):
    """A client of the demo models."""
    with Client(demo.address) as client:
        yield client


@pytest.fixture(scope="session")
def demo_image():
    """The bytes of the bundled image."""
    return DEMO_IMAGE.read_bytes()
