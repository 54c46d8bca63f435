"""Uses the package as typed programs do. mypy checks it, nothing runs it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy
from blip_serve_client import (
    Answer,
    AskResult,
    AsyncClient,
    Caption,
    Client,
    Embedding,
    GenerationOptions,
    ImageQuestions,
    ItemError,
    MatchScores,
    Model,
    Question,
    RetryPolicy,
)
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import assert_type


def sync_calls(array: NDArray[Any]) -> None:
    with Client("host:1", api_key="key", retry=RetryPolicy(max_attempts=2), timeout_s=None) as client:
        assert_type(client.ask("cat.jpg", "asleep?"), Answer)
        assert_type(client.ask(Path("cat.jpg"), Question("asleep?", candidates=["yes", "no"])), Answer)
        assert_type(client.ask(b"", ["asleep?", "awake?"], priority="low"), list[Answer])
        assert_type(client.ask(Image.new("RGB", (1, 1)), [Question("asleep?"), "awake?"]), list[Answer])
        assert_type(client.caption(array, generation=GenerationOptions(num_beams=3)), Caption)
        assert_type(client.caption(numpy.zeros((1, 1, 3), numpy.uint8), ["a", "b"]), list[Caption])
        assert_type(client.match("cat.jpg", "a cat"), MatchScores)
        assert_type(client.match("cat.jpg", ["a cat", "a dog"]), list[MatchScores])
        assert_type(client.embed(images=["cat.jpg"]).images[0], Embedding)
        assert_type(client.models(), list[Model])
        assert_type(client.ask_many([("cat.jpg", "asleep?")]), Iterator[AskResult])
        for result in client.ask_many(ImageQuestions("cat.jpg", ["asleep?"], id=n) for n in range(3)):
            assert_type(result.answers[0], Answer | ItemError)


async def inputs() -> AsyncIterator[ImageQuestions]:
    yield ImageQuestions("cat.jpg", "asleep?")


async def async_calls() -> None:
    async with AsyncClient("host:1") as client:
        assert_type(await client.ask("cat.jpg", "asleep?"), Answer)
        assert_type(await client.ask("cat.jpg", ["asleep?"]), list[Answer])
        async for result in client.ask_many(inputs()):
            assert_type(result, AskResult)
