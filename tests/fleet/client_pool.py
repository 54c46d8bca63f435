"""Two hundred clients that ask continuously."""

import asyncio
import random
from collections import Counter

from blip_client import SERVICE_CONFIG, BlipClient
from servers import TIMEOUT_S

CLIENTS = 200
# Each client has a separate connection, as if it were a process.
OPTIONS = {"grpc.use_local_subchannel_pool": 1}


class ClientPool:
    """Asks at `target` while its `async with` block runs.

    `counts` holds the numbers of calls and answers, `failures` what went wrong.
    """

    def __init__(self, target, known_answers, service_config=SERVICE_CONFIG):
        self.target, self.known_answers, self.service_config = target, known_answers, service_config
        self.counts = Counter()
        self.failures = []
        self.is_ending = False
        self.changed = asyncio.Condition()

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self.client(random.Random(number))) for number in range(CLIENTS)]
        return self

    async def __aexit__(self, *_):
        self.is_ending = True
        await asyncio.wait_for(asyncio.gather(*self.tasks), TIMEOUT_S)

    async def client(self, rng):
        """Asks until the pool ends."""
        async with BlipClient(self.target, service_config=self.service_config, options=OPTIONS) as client:
            while not self.is_ending:
                chosen = rng.choices(self.known_answers, k=rng.choice([1, 1, 1, 2]))
                # Half of the calls have one question, so that only the service config retries them.
                is_single = rng.random() < 0.5
                if is_single:
                    chosen = chosen[:1]
                before = client.retries
                try:
                    await self.ask(client, chosen, is_single)
                except Exception as error:  # the test reports every error that a client gets
                    self.failures.append(f"{type(error).__name__}: {error}")
                self.counts["calls repeated by the client"] += client.retries - before
                self.counts["calls"] += 1
                async with self.changed:
                    self.changed.notify_all()

    async def ask(self, client, chosen, is_single):
        """Sends one request and compares its answers."""
        inputs = [(each.image, each.questions[:1] if is_single else each.questions) for each in chosen]
        outstanding = {
            (image, question)
            for image, (_, questions) in enumerate(inputs)
            for question in range(len(questions))
        }
        async for image, question, outcome in client.ask(inputs, timeout_s=TIMEOUT_S):
            outstanding.remove((image, question))
            expected = chosen[image].answers[question]
            ids = tuple(getattr(outcome, "token_ids", ()))
            if ids != expected:
                self.failures.append(f"{inputs[image][1][question]!r} got {outcome} instead of {expected}")
            self.counts["answers"] += 1
        if outstanding:
            self.failures.append(f"{len(outstanding)} of {inputs} were not answered")

    async def until(self, condition):
        """Waits until `condition()` is true. It is checked after each call."""

        async def wait():
            while not await asyncio.to_thread(condition):
                async with self.changed:
                    await self.changed.wait()

        await asyncio.wait_for(wait(), TIMEOUT_S)

    async def more_calls(self, count):
        """Waits for this many further calls."""
        goal = self.counts["calls"] + count
        await self.until(lambda: self.counts["calls"] >= goal)
