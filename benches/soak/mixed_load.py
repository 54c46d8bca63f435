"""Measures the latency of plain questions alone and together with the other tasks.

    python benches/soak/mixed_load.py --server 127.0.0.1:50051 --rate 80 --seconds 20

The server must serve the three demo models. Each turn has two parts with the same request rate:

1. Plain questions only, each about another image, at the times of a Poisson process.
2. Half plain questions, half other requests (candidates, beam search, captions, matches) in equal
   parts. Each of these is at least as much work as a plain question.

Latency counts from the time at which a request was due. The parts alternate `--turns` times.
"""

import argparse
import concurrent.futures
import io
import json
import random
import statistics
import sys
import time
from pathlib import Path

from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/reference"))
from reflection import ReflectedService, connect  # noqa: E402

PLAIN, OTHERS = "plain question", ("candidates", "beams", "caption", "match")
CANDIDATES = ("one", "two", "three", "four", "red", "blue", "green", "circle")


def numbered_image(number):
    """Returns a PNG of two rectangles, which differs for each number."""
    rng = random.Random(number)
    image = Image.new("RGB", (64, 64), (255, 255, 255))
    for _ in range(2):
        left, top = rng.randrange(40), rng.randrange(40)
        color = tuple(rng.randrange(256) for _ in range(3))
        image.paste(color, (left, top, left + rng.randrange(8, 24), top + rng.randrange(8, 24)))
    image.putpixel((number % 64, number // 64 % 64), (number % 256, number // 256 % 256, 7))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class Client:
    """Creates requests of every kind."""

    def __init__(self, server):
        self.service = ReflectedService(connect(server), "blip.v1.BlipService")

    def request(self, kind, number):
        """Returns (method, request) about the image of a number."""
        message, method = self.service.message, self.service.stream
        if kind == "caption":
            request = message("Caption")()
            request.inputs.add().image.data = numbered_image(number)
            return method("Caption"), request
        if kind == "match":
            request = message("Match")()
            entry = request.inputs.add()
            entry.image.data = numbered_image(number)
            entry.texts.append("a red rectangle")
            return method("Match"), request
        request = message("Ask")()
        entry = request.inputs.add()
        entry.image.data = numbered_image(number)
        question = entry.questions.add()
        question.text = "how many shapes are in the picture?"
        if kind == "candidates":
            question.candidates.extend(CANDIDATES)
        if kind == "beams":
            request.generation.num_beams = 3
        return method("Ask"), request


def measure(client, kinds, rate, seconds, first):
    """Returns the latencies in ms of each kind, and the number of failed requests."""
    rng = random.Random(first)
    due, now = [], 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        due.append((now, rng.choice(kinds)))
    requests = [(at, kind, *client.request(kind, first + number)) for number, (at, kind) in enumerate(due)]
    latencies, failed = {kind: [] for kind in kinds}, 0

    def send(at, kind, method, request):
        time.sleep(max(0.0, start + at - time.perf_counter()))
        ok = all(response.WhichOneof("outcome") != "error" for response in method(request, timeout=60))
        return kind, (time.perf_counter() - start - at) * 1e3, ok

    with concurrent.futures.ThreadPoolExecutor(256) as pool:
        start = time.perf_counter() + 0.5
        for kind, latency, ok in pool.map(lambda each: send(*each), requests):
            latencies[kind].append(latency)
            failed += not ok
    return latencies, failed


def percentile(values, fraction):
    """Returns a percentile of a list."""
    values = sorted(values)
    return values[min(len(values) - 1, int(fraction * len(values)))]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--rate", type=float, default=80, help="requests per second")
    parser.add_argument("--seconds", type=float, default=20, help="length of each part")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    client = Client(options.server)
    measure(client, [PLAIN, *OTHERS], options.rate, 3, 10_000_000)
    mixed_kinds = [PLAIN] * len(OTHERS) + list(OTHERS)
    turns, number = [], 0
    for _ in range(options.turns):
        turn = {}
        for name, kinds in (("alone", [PLAIN]), ("mixed", mixed_kinds)):
            number += 1_000_000
            latencies, failed = measure(client, kinds, options.rate, options.seconds, number)
            plain = latencies[PLAIN]
            turn[name] = {
                "requests": sum(map(len, latencies.values())),
                "failed": failed,
                "plain": len(plain),
                "plain_p50_ms": round(statistics.median(plain), 2),
                "plain_p99_ms": round(percentile(plain, 0.99), 2),
                "p99_ms_by_kind": {
                    kind: round(percentile(values, 0.99), 2) for kind, values in latencies.items()
                },
            }
        turn["p99_ratio"] = round(turn["mixed"]["plain_p99_ms"] / turn["alone"]["plain_p99_ms"], 2)
        turns.append(turn)
        print(json.dumps(turn))
    ratio = statistics.median(turn["p99_ratio"] for turn in turns)
    print(json.dumps({"rate": options.rate, "p99_ratio_median": ratio}))


if __name__ == "__main__":
    main()
