"""Fixtures: servers, proxies, and questions with known answers."""

import asyncio

import pytest
from known_answers import single_answers
from servers import Proxy, Server


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


@pytest.fixture
def proxy(tmp_path):
    """A function that starts a proxy for servers and returns its address."""
    started = []

    def start(name, servers):
        started.append(Proxy(name, servers, tmp_path))
        return started[-1].address

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def known_answers():
    """Questions with the answers of a server that gets them one at a time."""
    server = Server().start()
    try:
        return asyncio.run(single_answers(server.address))
    finally:
        server.kill()
