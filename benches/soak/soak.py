"""Many clients at once, of every temper, against a running server; every answer is checked.

Each client has a connection of its own. Most ask and wait; some hang up after their first answer, some give too little
time, some take on a large request and never read. The questions are easy-vqa's test split, so that each answer can
be compared with the reference's, token by token: none may be lost, given twice, or changed by its company.

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
from demo import easy_vqa_set  # noqa: E402

ALLOWED_ENDS = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 4, 8


class Soak:
    """What is asked, what must come back, and what came."""

    def __init__(self, address, wanted, seed):
        self.address, self.wanted, self.random = address, wanted, random.Random(seed)
        with reflection.connect(address) as channel:
            self.service = reflection.ReflectedService(channel, SERVICE)
            self.request_class = self.service.message("Ask")
        paths, self.questions = easy_vqa_set.load()
        self.pictures = [Path(path).read_bytes() for path in paths]
        self.of_picture = collections.defaultdict(list)
        for position, question in enumerate(self.questions):
            self.of_picture[question.picture].append(position)
        reference = json.loads(gzip.decompress(REFERENCE.read_bytes()))
        self.expected = [reference["answers"][which]["token_ids"] for which, _, _ in reference["given"]]
        self.counts = collections.Counter()

    def request(self, pictures, most_questions):
        """A request about so many random pictures, and the reference position of each of its pairs."""
        request, pairs = self.request_class(), {}
        for image_index in range(pictures):
            picture = self.random.randrange(len(self.pictures))
            entry = request.inputs.add()
            entry.image.data = self.pictures[picture]
            known = self.of_picture[picture]
            chosen = self.random.sample(known, min(len(known), self.random.randint(1, most_questions)))
            for question_index, position in enumerate(chosen):
                entry.questions.add().text = self.questions[position].text
                pairs[image_index, question_index] = position
        return request, pairs

    def take(self, response, pairs, seen):
        """Checks one response; true if it is an answer."""
        pair = response.image_index, response.question_index
        if pair in seen or pair not in pairs:
            self.counts["given twice or never asked"] += 1
            return False
        seen.add(pair)
        if response.WhichOneof("outcome") == "error":
            code = response.error.code
            known = {DEADLINE_EXCEEDED: "late pairs", RESOURCE_EXHAUSTED: "refused pairs"}
            self.counts[known.get(code, f"unexpected error {code}: {response.error.message}")] += 1
            return False
        self.counts["answers"] += 1
        if list(response.answer.token_ids) != self.expected[pairs[pair]]:
            self.counts["wrong"] += 1
        return True

    async def call(self, call, temper):
        """One request of a client of this temper."""
        pictures, most = (1, 1) if temper == "interactive" else (self.random.randint(1, 3), 10)
        request, pairs = self.request(pictures, most)
        timeout = self.random.uniform(0.002, 0.1) if temper == "hurried" else 120
        stream, seen = call(request, timeout=timeout), set()
        try:
            async for response in stream:
                answered = self.take(response, pairs, seen)
                if temper == "fickle" and answered:
                    stream.cancel()
                    self.counts["calls hung up"] += 1
                    return
        except asyncio.CancelledError:
            if temper != "fickle":
                raise
        except grpc.aio.AioRpcError as error:
            self.counts[f"calls ended {error.code().name}"] += 1
            if error.code() not in ALLOWED_ENDS or (temper in ("patient", "interactive") and not self.full(error)):
                self.counts[f"unexpected end of {temper}: {error.code().name}: {error.details()}"] += 1
            return
        if len(seen) != len(pairs):
            self.counts["lost"] += len(pairs) - len(seen)

    @staticmethod
    def full(error):
        return error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    def connect(self):
        """A channel with a connection of its own, as clients on other machines have."""
        return reflection.connect(self.address, grpc.aio, [("grpc.use_local_subchannel_pool", 1)])

    async def client(self, temper):
        async with self.connect() as channel:
            call = self.service.stream("Ask", channel)
            while self.counts["answers"] < self.wanted:
                await self.call(call, temper)
                if temper in ("hurried", "fickle"):
                    # Most of what they ask is never answered: without a pause they would be all that is sent.
                    await asyncio.sleep(0.05)

    async def deaf(self):
        """Asks a great deal and reads nothing until everybody else is done."""
        async with self.connect() as channel:
            request, _ = self.request(60, 10)
            stream = self.service.stream("Ask", channel)(request, timeout=3600)
            while self.counts["answers"] < self.wanted:
                await asyncio.sleep(0.2)
            stream.cancel()

    async def run(self, clients):
        tempers = ["patient"] * 6 + ["interactive"] * 6 + ["fickle"] * 2 + ["hurried"] * 2
        work = [self.client(tempers[index % len(tempers)]) for index in range(clients)]
        await asyncio.gather(*work, *(self.deaf() for _ in range(4)))


def resident_mib(pid):
    """Resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--answers", type=int, default=50_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pid", type=int, help="the server's process, to report its memory")
    options = parser.parse_args()
    bad = ("wrong", "lost", "given twice")

    # Most of what grows at first, caches among it, has grown when a twentieth is answered.
    parts = [options.answers // 20, options.answers // 4 - options.answers // 20, *[options.answers // 4] * 3]
    totals, begun = collections.Counter(), time.monotonic()
    if options.pid:
        print(f"{'resident MiB at the start':44} {resident_mib(options.pid):8.0f}", flush=True)
    for part, answers in enumerate(parts):
        soak = Soak(options.server, answers, options.seed + part)
        asyncio.run(soak.run(options.clients))
        totals += soak.counts
        if options.pid:
            after = f"resident MiB after {totals['answers']} answers"
            print(f"{after:44} {resident_mib(options.pid):8.0f}", flush=True)
    seconds = time.monotonic() - begun
    for name in ("answers", "wrong", "lost", "given twice or never asked"):
        totals.setdefault(name, 0)
    for name, count in sorted(totals.items()):
        print(f"{name:44} {count:8}")
    print(f"{'seconds':44} {seconds:8.1f}")
    failed = [name for name, count in totals.items() if count and (name.startswith(bad) or "unexpected" in name)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
