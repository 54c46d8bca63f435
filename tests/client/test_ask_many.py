"""`ask_many`: order, bounded memory, inputs that fail, and results that nobody reads."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blip_serve_client import AsyncClient, ImageQuestions
from servers import DEMO_IMAGE

QUESTIONS = ["how many things are in the image?", "is there a square?"]
ANSWERS = ["5", "yes"]


class CountedInputs:
    """Inputs that count how many of them are taken."""

    def __init__(self, image, count):
        self.image, self.count, self.taken = image, count, 0

    def __iter__(self):
        for number in range(self.count):
            self.taken += 1
            yield ImageQuestions(self.image, QUESTIONS, id=f"id {number}")


@pytest.mark.parametrize("in_order", [True, False])
def test_every_input_has_one_result_with_its_id(client, demo_image, in_order):
    results = list(client.ask_many(CountedInputs(demo_image, 300), in_order=in_order))
    indices = [result.index for result in results]
    assert (indices if in_order else sorted(indices)) == list(range(300))
    assert all(result.id == f"id {result.index}" for result in results)
    assert all([answer.text for answer in result.answers] == ANSWERS for result in results)


@pytest.mark.parametrize("in_order", [True, False])
def test_inputs_read_ahead_are_bounded(client, demo_image, in_order):
    inputs = CountedInputs(demo_image, 200)
    most = 0
    for read, _ in enumerate(client.ask_many(inputs, in_order=in_order, max_in_flight=5), start=1):
        # One more may be taken for the room of the result that was just delivered.
        most = max(most, inputs.taken - read)
    assert (inputs.taken, most) == (200, most) and most <= 5


def test_memory_does_not_grow_with_the_inputs(demo):
    script = Path(__file__).with_name("memory_growth.py")
    growth = subprocess.run([sys.executable, script, demo.address], capture_output=True, text=True, check=True)
    assert int(growth.stdout) < 50_000_000


def test_async_inputs_read_ahead_are_bounded(demo, demo_image):
    async def inputs(counted):
        for each in counted:
            yield each

    async def run(counted, iterable):
        most, results = 0, []
        async with AsyncClient(demo.address) as client:
            async for result in client.ask_many(iterable, max_in_flight=5):
                results.append(result)
                most = max(most, counted.taken - len(results))
        return most, results

    for wrap in (iter, inputs):
        counted = CountedInputs(demo_image, 100)
        most, results = asyncio.run(run(counted, wrap(counted)))
        assert most <= 5
        assert [result.index for result in results] == list(range(100))
        assert all(result.id == f"id {result.index}" for result in results)
        assert all([answer.text for answer in result.answers] == ANSWERS for result in results)


def test_result_arrives_before_the_next_input(client, demo_image):
    released = threading.Event()

    def inputs():
        yield demo_image, QUESTIONS
        assert released.wait(60)
        yield demo_image, QUESTIONS

    results = client.ask_many(inputs())
    assert next(results).index == 0
    released.set()
    assert [result.index for result in results] == [1]


def test_error_of_the_inputs_follows_the_results_before_it(client, demo_image):
    def inputs():
        yield demo_image, QUESTIONS
        yield demo_image, QUESTIONS
        raise KeyError("broken")

    results = client.ask_many(inputs())
    assert [next(results).index, next(results).index] == [0, 1]
    with pytest.raises(KeyError, match="broken"):
        next(results)


@pytest.mark.parametrize(
    ("value", "error"), [("cat.jpg", TypeError), ((b"", []), ValueError), ((1, "a"), TypeError)]
)
def test_input_of_another_type_ends_the_run(client, value, error):
    with pytest.raises(error):
        list(client.ask_many([value]))


def test_no_inputs_have_no_results(client, demo):
    async def run():
        async with AsyncClient(demo.address) as other:
            return [result async for result in other.ask_many([])]

    assert list(client.ask_many([])) == [] == asyncio.run(run())
    with pytest.raises(ValueError, match="max_in_flight: 0"):
        client.ask_many([], max_in_flight=0)


def test_closed_results_end_the_threads_and_the_inputs(client, demo_image):
    inputs = CountedInputs(demo_image, 1_000_000)
    results = client.ask_many(inputs)
    assert next(results).index == 0
    results.close()
    for thread in threading.enumerate():
        if thread.name == "ask_many":
            thread.join(60)
            assert not thread.is_alive()
    assert inputs.taken < 1_000


def test_cancelled_async_run_ends_its_tasks(demo, demo_image):
    inputs = CountedInputs(demo_image, 1_000_000)

    async def read(client):
        async for _ in client.ask_many(inputs):
            reading.set()

    async def run():
        async with AsyncClient(demo.address) as client:
            task = asyncio.create_task(read(client))
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            results = client.ask_many(inputs)
            assert (await anext(results)).index == 0
            await results.aclose()
            return [task for task in asyncio.all_tasks() if "AsyncRun" in repr(task)]

    reading = asyncio.Event()
    assert asyncio.run(run()) == []


def test_threads_share_a_client(client, demo_image):
    outcomes = []

    def run():
        outcomes.append(
            [result.answers[0].text for result in client.ask_many([(demo_image, QUESTIONS)] * 20)]
        )

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [["5"] * 20] * 4
