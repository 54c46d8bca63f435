"""Servers that die, drain, join and are replaced, while two hundred clients ask."""

import asyncio

import pytest
from crowd import CLIENTS, Crowd
from servers import ROOT

# Calls for which the load of each server is counted, and calls between two events.
EVEN, BETWEEN = 4000, 300
DRAIN = ("--drain-grace-s", "1", "--drain-limit-s", "200")


async def assert_even(crowd, servers):
    """Each server answers its share, to a fifth."""
    before = [server.answered() for server in servers]
    await crowd.more_calls(EVEN)
    shares = [server.answered() - count for server, count in zip(servers, before)]
    even = sum(shares) / len(shares)
    assert all(abs(share - even) <= 0.2 * even for share in shares), shares
    return [f"{share / even:.2f}" for share in shares]


async def story(crowd, servers, all_connected):
    first, second, third, fourth, fifth = servers
    at_first = servers[:4]
    async with crowd:
        await crowd.until(lambda: all_connected(at_first))
        shares = [await assert_even(crowd, at_first)]
        first.kill()
        await crowd.more_calls(BETWEEN)
        assert await asyncio.to_thread(second.drain) == 0
        await crowd.more_calls(BETWEEN)
        for joining in (fifth, first, second):
            await asyncio.to_thread(joining.start)
            await crowd.until(lambda: joining.answered() > 0)
        for rolled in servers:
            assert await asyncio.to_thread(rolled.drain) == 0
            await asyncio.to_thread(rolled.start)
            await crowd.until(lambda: rolled.answered() > 0)
        await crowd.until(lambda: all_connected(servers))
        shares.append(await assert_even(crowd, servers))
    assert crowd.complaints == []
    return shares


def connected_to_everyone(servers):
    """Every client has a connection to each server."""
    return all(server.metric("blip_connections") >= CLIENTS for server in servers)


def report(way, crowd, shares):
    print(f"\n{way}: {dict(crowd.seen)}; shares of even, four servers {shares[0]}, five after all of it {shares[1]}")


def test_scale_out_is_invisible_to_balancing_clients(servers, known):
    fleet = servers(5, *DRAIN)
    for server in fleet[:4]:
        server.start()
    target = "ipv4:" + ",".join(server.address for server in fleet)

    async def run():
        crowd = Crowd(target, known)
        report("round robin by the clients", crowd, await story(crowd, fleet, connected_to_everyone))

    asyncio.run(run())


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_scale_out_is_invisible_behind_proxy(servers, proxy, known, name):
    fleet = servers(5, *DRAIN)
    for server in fleet[:4]:
        server.start()
    address = proxy(name, fleet)

    async def run():
        crowd = Crowd(f"ipv4:{address}", known, ROOT / "examples/service_config_proxy.json")
        report(name, crowd, await story(crowd, fleet, lambda up: all(server.answered() > 0 for server in up)))

    asyncio.run(run())
