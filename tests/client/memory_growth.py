"""Sends 300 MB of images by `ask_many`. Prints by how many bytes the peak of the memory grew."""

import resource
import sys

from blip_serve_client import Client

MEGABYTE = 1_000_000


def run(client, count):
    inputs = ((number.to_bytes(4, "big") + bytes(MEGABYTE), "a") for number in range(count))
    results = list(client.ask_many(inputs, max_in_flight=4))
    assert [result.answers[0].reason for result in results] == ["IMAGE_FORMAT_UNKNOWN"] * count


with Client(sys.argv[1]) as client:
    run(client, 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(client, 300)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
