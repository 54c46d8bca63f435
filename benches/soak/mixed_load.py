"""Plain questions alone, and in the company of every other task: what company does to their latency.

    python benches/soak/mixed_load.py --server 127.0.0.1:50051 --rate 80 --seconds 20

The server has to serve the three demo models. First `rate` plain questions a second are asked, each about a picture of its own, at
the times of a Poisson process; then half as many, with as many requests of the other kinds (candidates, beams, captions,
matches) in equal parts: as many requests a second, and each of them no less work. Latency counts from the moment that a
request was due. The two are measured in turns, `--turns` times.
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


def picture(number):
    """A PNG of two rectangles, another one for each number."""
    chance = random.Random(number)
    image = Image.new("RGB", (64, 64), (255, 255, 255))
    for _ in range(2):
        left, top = chance.randrange(40), chance.randrange(40)
        color = tuple(chance.randrange(256) for _ in range(3))
        image.paste(color, (left, top, left + chance.randrange(8, 24), top + chance.randrange(8, 24)))
    image.putpixel((number % 64, number // 64 % 64), (number % 256, number // 256 % 256, 7))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class Asker:
    def __init__(self, server):
        self.service = ReflectedService(connect(server), "blip.v1.BlipService")

    def request(self, kind, number):
        message, method = self.service.message, self.service.stream
        if kind == "caption":
            request = message("Caption")()
            request.inputs.add().image.data = picture(number)
            return method("Caption"), request
        if kind == "match":
            request = message("Match")()
            entry = request.inputs.add()
            entry.image.data = picture(number)
            entry.texts.append("a red rectangle")
            return method("Match"), request
        request = message("Ask")()
        entry = request.inputs.add()
        entry.image.data = picture(number)
        question = entry.questions.add()
        question.text = "how many shapes are in the picture?"
        if kind == "candidates":
            question.candidates.extend(str(word) for word in ("one", "two", "three", "four", "red", "blue", "green", "circle"))
        if kind == "beams":
            request.generation.num_beams = 3
        return method("Ask"), request


def measure(asker, kinds, rate, seconds, first):
    """Latencies in ms of each kind, and how many requests failed."""
    chance = random.Random(first)
    due, now = [], 0.0
    while (now := now + chance.expovariate(rate)) < seconds:
        due.append((now, chance.choice(kinds)))
    requests = [(at, kind, *asker.request(kind, first + number)) for number, (at, kind) in enumerate(due)]
    latencies, failed = {kind: [] for kind in kinds}, 0

    def ask(at, kind, method, request):
        time.sleep(max(0.0, start + at - time.perf_counter()))
        ok = all(response.WhichOneof("outcome") != "error" for response in method(request, timeout=60))
        return kind, (time.perf_counter() - start - at) * 1e3, ok

    with concurrent.futures.ThreadPoolExecutor(256) as pool:
        start = time.perf_counter() + 0.5
        for kind, latency, ok in pool.map(lambda each: ask(*each), requests):
            latencies[kind].append(latency)
            failed += not ok
    return latencies, failed


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--rate", type=float, default=80, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    asker = Asker(arguments.server)
    measure(asker, [PLAIN, *OTHERS], arguments.rate, 3, 10_000_000)
    mixed_kinds = [PLAIN] * len(OTHERS) + list(OTHERS)
    turns, number = [], 0
    for _ in range(arguments.turns):
        turn = {}
        for name, kinds in (("alone", [PLAIN]), ("mixed", mixed_kinds)):
            latencies, failed = measure(asker, kinds, arguments.rate, arguments.seconds, number := number + 1_000_000)
            plain = latencies[PLAIN]
            turn[name] = {
                "requests": sum(map(len, latencies.values())), "failed": failed, "plain": len(plain),
                "plain_p50_ms": round(statistics.median(plain), 2), "plain_p99_ms": round(percentile(plain, 0.99), 2),
                "p99_ms_by_kind": {kind: round(percentile(values, 0.99), 2) for kind, values in latencies.items()},
            }
        turn["p99_ratio"] = round(turn["mixed"]["plain_p99_ms"] / turn["alone"]["plain_p99_ms"], 2)
        turns.append(turn)
        print(json.dumps(turn))
    print(json.dumps({"rate": arguments.rate, "p99_ratio_median": statistics.median(turn["p99_ratio"] for turn in turns)}))


if __name__ == "__main__":
    main()
