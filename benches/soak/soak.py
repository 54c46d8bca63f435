"""Sends requests of many different clients to a running server and checks every answer.

Each client has a separate connection. The behaviours are:

* patient: waits for all answers to a large request
* interactive: asks one question at a time
* cancelling: cancels its call after the first answer
* hurried: sets a deadline of 2 to 100 ms
* unread: sends a large request and never reads the responses

The questions are easy-vqa's test split, so that each answer is compared with the reference token by
token. No answer may be lost, duplicated or changed by the rest of the batch.

    blip-serve serve --answer-cache-bytes 0 &
    python benches/soak/soak.py --server 127.0.0.1:50051 --answers 50000 --pid $!
"""

import argparse
import asyncio
import collections
import gzip
import json
import random
import sys
import time
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests/reference"), str(ROOT / "models/training")]
import reflection  # noqa: E402
from ask_easy_vqa import REFERENCE, SERVICE  # noqa: E402
from demo.data import easy_vqa_set  # noqa: E402

BEHAVIOURS = ["patient"] * 6 + ["interactive"] * 6 + ["cancelling"] * 2 + ["hurried"] * 2
UNREAD_CLIENTS = 4
ALLOWED_CODES = {
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}
# Status codes of items, and their row in the report.
ITEM_CODES = {4: "late items", 8: "rejected items"}
WRONG, LOST, DUPLICATE, UNEXPECTED = "wrong", "lost", "duplicate or not requested", "unexpected"


class Soak:
    """The questions, the expected answers and the counts of the results."""

    def __init__(self, address, answers, seed):
        self.address, self.answers, self.random = address, answers, random.Random(seed)
        with reflection.connect(address) as channel:
            self.service = reflection.ReflectedService(channel, SERVICE)
            self.request_class = self.service.message("Ask")
        paths, self.questions = easy_vqa_set.load()
        self.images = [Path(path).read_bytes() for path in paths]
        self.of_image = collections.defaultdict(list)
        for position, question in enumerate(self.questions):
            self.of_image[question.image].append(position)
        reference = json.loads(gzip.decompress(REFERENCE.read_bytes()))
        self.expected = [reference["answers"][which]["token_ids"] for which, _, _ in reference["given"]]
        self.counts = collections.Counter()

    def request(self, images, max_questions):
        """Returns a request about random images, and the question of each of its items."""
        request, items = self.request_class(), {}
        for image_index in range(images):
            image = self.random.randrange(len(self.images))
            entry = request.inputs.add()
            entry.image.data = self.images[image]
            questions = self.of_image[image]
            chosen = self.random.sample(questions, min(len(questions), self.random.randint(1, max_questions)))
            for question_index, position in enumerate(chosen):
                entry.questions.add().text = self.questions[position].text
                items[image_index, question_index] = position
        return request, items

    def check(self, response, items, received):
        """Checks one response. Returns whether it is an answer."""
        item = response.image_index, response.question_index
        if item in received or item not in items:
            self.counts[DUPLICATE] += 1
            return False
        received.add(item)
        if response.WhichOneof("outcome") == "error":
            code = response.error.code
            self.counts[ITEM_CODES.get(code, f"{UNEXPECTED} error {code}: {response.error.message}")] += 1
            return False
        self.counts["answers"] += 1
        if list(response.answer.token_ids) != self.expected[items[item]]:
            self.counts[WRONG] += 1
        return True

    async def call(self, call, behaviour):
        """Sends one request of a client and checks its responses."""
        images, most = (1, 1) if behaviour == "interactive" else (self.random.randint(1, 3), 10)
        request, items = self.request(images, most)
        timeout = self.random.uniform(0.002, 0.1) if behaviour == "hurried" else 120
        stream, received = call(request, timeout=timeout), set()
        try:
            async for response in stream:
                is_answer = self.check(response, items, received)
                if behaviour == "cancelling" and is_answer:
                    stream.cancel()
                    self.counts["calls cancelled"] += 1
                    return
        except asyncio.CancelledError:
            if behaviour != "cancelling":
                raise
        except grpc.aio.AioRpcError as error:
            self.counts[f"calls ended {error.code().name}"] += 1
            if not self.is_allowed(error.code(), behaviour):
                name = f"{UNEXPECTED} end of {behaviour}: {error.code().name}: {error.details()}"
                self.counts[name] += 1
            return
        if len(received) != len(items):
            self.counts[LOST] += len(items) - len(received)

    @staticmethod
    def is_allowed(code, behaviour):
        """Returns whether a call of a client may end with a status code."""
        if behaviour in ("patient", "interactive"):
            return code == grpc.StatusCode.RESOURCE_EXHAUSTED
        return code in ALLOWED_CODES

    def connect(self):
        """Returns a channel with a separate connection, as of a client on another machine."""
        return reflection.connect(self.address, grpc.aio, [("grpc.use_local_subchannel_pool", 1)])

    async def client(self, behaviour):
        """Sends requests until enough answers were received."""
        async with self.connect() as channel:
            call = self.service.stream("Ask", channel)
            while self.counts["answers"] < self.answers:
                await self.call(call, behaviour)
                if behaviour in ("hurried", "cancelling"):
                    # Most of their items are never answered. Without a pause they would dominate.
                    await asyncio.sleep(0.05)

    async def unread_client(self):
        """Sends a large request and reads nothing until all others are done."""
        async with self.connect() as channel:
            request, _ = self.request(60, 10)
            stream = self.service.stream("Ask", channel)(request, timeout=3600)
            while self.counts["answers"] < self.answers:
                await asyncio.sleep(0.2)
            stream.cancel()

    async def run(self, clients):
        """Runs all clients."""
        work = [self.client(BEHAVIOURS[index % len(BEHAVIOURS)]) for index in range(clients)]
        await asyncio.gather(*work, *(self.unread_client() for _ in range(UNREAD_CLIENTS)))


def resident_mib(pid):
    """Returns the resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--answers", type=int, default=50_000, help="answers to receive")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pid", type=int, help="process of the server, to report its memory")
    options = parser.parse_args()

    # Caches have grown to most of their size after a twentieth of the answers.
    parts = [options.answers // 20, options.answers // 4 - options.answers // 20, *[options.answers // 4] * 3]
    totals, start = collections.Counter(), time.monotonic()
    if options.pid:
        print(f"{'resident MiB at the start':44} {resident_mib(options.pid):8.0f}", flush=True)
    for part, answers in enumerate(parts):
        soak = Soak(options.server, answers, options.seed + part)
        asyncio.run(soak.run(options.clients))
        totals += soak.counts
        if options.pid:
            name = f"resident MiB after {totals['answers']} answers"
            print(f"{name:44} {resident_mib(options.pid):8.0f}", flush=True)
    seconds = time.monotonic() - start
    for name in ("answers", WRONG, LOST, DUPLICATE):
        totals.setdefault(name, 0)
    for name, count in sorted(totals.items()):
        print(f"{name:44} {count:8}")
    print(f"{'seconds':44} {seconds:8.1f}")
    has_failed = any(
        count and name.startswith((WRONG, LOST, DUPLICATE, UNEXPECTED)) for name, count in totals.items()
    )
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
