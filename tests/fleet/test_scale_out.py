"""Servers fail, drain, join and restart while two hundred clients ask."""

import asyncio

import pytest
from client_pool import CLIENTS, ClientPool
from servers import ROOT

# Calls to measure the load of each server, and calls between two events.
MEASURED_CALLS, CALLS_BETWEEN = 4000, 300
DRAIN = ("--drain-grace-s", "1", "--drain-limit-s", "200")


async def assert_balanced(pool, servers):
    """Checks that the load of each server is within a fifth of the mean. Returns the ratios."""
    before = [server.answered() for server in servers]
    await pool.more_calls(MEASURED_CALLS)
    calls = [server.answered() - count for server, count in zip(servers, before)]
    mean = sum(calls) / len(calls)
    assert all(abs(count - mean) <= 0.2 * mean for count in calls), calls
    return [f"{count / mean:.2f}" for count in calls]


async def run_events(pool, servers, all_connected):
    first, second, third, fourth, fifth = servers
    initial = servers[:4]
    async with pool:
        await pool.until(lambda: all_connected(initial))
        ratios = [await assert_balanced(pool, initial)]
        first.kill()
        await pool.more_calls(CALLS_BETWEEN)
        assert await asyncio.to_thread(second.drain) == 0
        await pool.more_calls(CALLS_BETWEEN)
        for started in (fifth, first, second):
            await asyncio.to_thread(started.start)
            await pool.until(lambda: started.answered() > 0)
        for restarted in servers:
            assert await asyncio.to_thread(restarted.drain) == 0
            await asyncio.to_thread(restarted.start)
            await pool.until(lambda: restarted.answered() > 0)
        await pool.until(lambda: all_connected(servers))
        ratios.append(await assert_balanced(pool, servers))
    assert pool.failures == []
    return ratios


def all_clients_connected(servers):
    """Returns whether every client has a connection to each server."""
    return all(server.metric("blip_connections") >= CLIENTS for server in servers)


def report(name, pool, ratios):
    """Prints the counts and the balance of the load."""
    print(
        f"\n{name}: {dict(pool.counts)}; load relative to the mean: "
        f"{ratios[0]} at the start, {ratios[1]} at the end"
    )


def test_scale_out_is_invisible_to_balancing_clients(servers, known_answers):
    fleet = servers(5, *DRAIN)
    for server in fleet[:4]:
        server.start()
    target = "ipv4:" + ",".join(server.address for server in fleet)

    async def run():
        pool = ClientPool(target, known_answers)
        report("round robin by the clients", pool, await run_events(pool, fleet, all_clients_connected))

    asyncio.run(run())


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_scale_out_is_invisible_behind_proxy(servers, proxy, known_answers, name):
    fleet = servers(5, *DRAIN)
    for server in fleet[:4]:
        server.start()
    address = proxy(name, fleet)

    async def run():
        pool = ClientPool(f"ipv4:{address}", known_answers, ROOT / "examples/service_config_proxy.json")
        report(
            name,
            pool,
            await run_events(pool, fleet, lambda running: all(server.answered() > 0 for server in running)),
        )

    asyncio.run(run())
