"""Servers, proxies, and questions whose answers are known."""

import asyncio

import pytest
from questions import lone_answers
from servers import Proxy, Server


@pytest.fixture
def servers():
    """Makes servers, not started yet."""
    made = []

    def make(count, *options):
        made.extend(Server(*options) for _ in range(count))
        return made[-count:]

    yield make
    for server in made:
        if server.process and server.process.poll() is None:
            server.kill()


@pytest.fixture
def proxy(tmp_path):
    """Starts a proxy ahead of servers; its address."""
    started = []

    def start(name, servers):
        started.append(Proxy(name, servers, tmp_path))
        return started[-1].address

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def known():
    """Inputs with what a server in no company answers."""
    server = Server().start()
    try:
        return asyncio.run(lone_answers(server.address))
    finally:
        server.kill()
