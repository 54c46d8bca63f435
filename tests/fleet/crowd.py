"""Two hundred clients who ask without pause."""

import asyncio
import random
from collections import Counter

from blip_client import SERVICE_CONFIG, BlipClient
from servers import HANG_LIMIT_S

CLIENTS = 200
# The fleet's clients each have connections of their own, as if they were processes.
OPTIONS = {"grpc.use_local_subchannel_pool": 1}


class Crowd:
    """Asks at `target` from `async with` until its end; what it saw is in `seen`, what went wrong in `complaints`."""

    def __init__(self, target, known, service_config=SERVICE_CONFIG):
        self.target, self.known, self.service_config = target, known, service_config
        self.seen = Counter()
        self.complaints = []
        self.ending = False
        self.news = asyncio.Condition()

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self.client(random.Random(number))) for number in range(CLIENTS)]
        return self

    async def __aexit__(self, *_):
        self.ending = True
        await asyncio.wait_for(asyncio.gather(*self.tasks), HANG_LIMIT_S)

    async def client(self, chance):
        async with BlipClient(self.target, service_config=self.service_config, options=OPTIONS) as client:
            while not self.ending:
                wanted = chance.choices(self.known, k=chance.choice([1, 1, 1, 2]))
                # Half of the calls ask one question only: what has brought nothing yet is for the service config to retry.
                single = chance.random() < 0.5
                if single:
                    wanted = wanted[:1]
                before = client.asked_again
                try:
                    await self.ask(client, wanted, single)
                except Exception as error:  # whatever a client sees is what this is about
                    self.complaints.append(f"{type(error).__name__}: {error}")
                self.seen["calls asked again by the client"] += client.asked_again - before
                self.seen["calls"] += 1
                async with self.news:
                    self.news.notify_all()

    async def ask(self, client, wanted, single):
        inputs = [(each.image, each.questions[:1] if single else each.questions) for each in wanted]
        outstanding = {(image, question) for image, (_, questions) in enumerate(inputs) for question in range(len(questions))}
        async for image, question, outcome in client.ask(inputs, timeout_s=HANG_LIMIT_S):
            outstanding.remove((image, question))
            expected = wanted[image].answers[question]
            ids = tuple(getattr(outcome, "token_ids", ()))
            if ids != expected:
                self.complaints.append(f"{inputs[image][1][question]!r} got {outcome} in place of {expected}")
            self.seen["answers"] += 1
        if outstanding:
            self.complaints.append(f"{len(outstanding)} of {inputs} were not answered")

    async def until(self, condition):
        """Waits, call by call, until `condition()` holds."""

        async def wait():
            while not await asyncio.to_thread(condition):
                async with self.news:
                    await self.news.wait()

        await asyncio.wait_for(wait(), HANG_LIMIT_S)

    async def more_calls(self, count):
        goal = self.seen["calls"] + count
        await self.until(lambda: self.seen["calls"] >= goal)
