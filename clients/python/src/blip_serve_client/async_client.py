"""The asyncio client."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import overload

from ._ask_many.async_run import AsyncRun
from ._ask_many.window import Window
from ._calls.async_connection import AsyncConnection
from ._calls.attempts import Deadline
from ._proto import blip_pb2
from ._tasks import to_results
from ._tasks.ask import AskTask
from ._tasks.caption import CaptionTask
from ._tasks.embed import EmbedTask
from ._tasks.match import MatchTask
from ._tasks.to_messages import question_messages, request_options, texts_of
from .images import ImageInput, image_message_async
from .inputs import AskInput, GenerationOptions, Priority, Question
from .results import Answer, AskResult, Caption, Embeddings, MatchScores, Model


class AsyncClient(AsyncConnection):
    """A client for asyncio of one or more blip-serve servers.

        async with AsyncClient("localhost:50051") as client:
            answer = await client.ask("cat.jpg", "is it asleep?")

    Its methods are those of `Client`.
    """

    @overload
    async def ask(  # type: ignore[overload-overlap]
        self,
        image: ImageInput,
        questions: str | Question,
        *,
        model: str | None = None,
        priority: Priority | None = None,
        generation: GenerationOptions | None = None,
        explain: bool = False,
        timeout_s: float | None = None,
    ) -> Answer: ...

    @overload
    async def ask(
        self,
        image: ImageInput,
        questions: Sequence[str | Question],
        *,
        model: str | None = None,
        priority: Priority | None = None,
        generation: GenerationOptions | None = None,
        explain: bool = False,
        timeout_s: float | None = None,
    ) -> list[Answer]: ...

    async def ask(
        self,
        image: ImageInput,
        questions: str | Question | Sequence[str | Question],
        *,
        model: str | None = None,
        priority: Priority | None = None,
        generation: GenerationOptions | None = None,
        explain: bool = False,
        timeout_s: float | None = None,
    ) -> Answer | list[Answer]:
        """Answers one question about an image, or a list of them.

        Args:
            image: A path, URL, bytes, Pillow image or NumPy array.
            questions: A question, or a sequence of questions.
            model: The name of the model. The default is the first one that answers questions.
            priority: The priority when several clients wait.
            generation: How tokens are chosen.
            explain: Whether answers have their `attention`, which shows where the model looked.
            timeout_s: The time limit of this call.

        Returns:
            An answer, or a list with the answer to each question.
        """
        options = request_options(model, priority, generation, explain)
        messages = question_messages(questions)
        answers = await self._collect(
            AskTask(await image_message_async(image), messages, options), timeout_s
        )
        return answers[0] if isinstance(questions, (str, Question)) else answers

    @overload
    async def caption(  # type: ignore[overload-overlap]
        self,
        image: ImageInput,
        prompts: str = "",
        *,
        model: str | None = None,
        priority: Priority | None = None,
        generation: GenerationOptions | None = None,
        timeout_s: float | None = None,
    ) -> Caption: ...

    @overload
    async def caption(
        self,
        image: ImageInput,
        prompts: Sequence[str],
        *,
        model: str | None = None,
        priority: Priority | None = None,
        generation: GenerationOptions | None = None,
        timeout_s: float | None = None,
    ) -> list[Caption]: ...

    async def caption(
        self,
        image: ImageInput,
        prompts: str | Sequence[str] = "",
        *,
        model: str | None = None,
        priority: Priority | None = None,
        generation: GenerationOptions | None = None,
        timeout_s: float | None = None,
    ) -> Caption | list[Caption]:
        """Describes an image, from one prompt or from each of a list of prompts.

        A caption begins with its prompt. The other arguments are those of `ask`.
        """
        options = request_options(model, priority, generation)
        several = texts_of([prompts] if isinstance(prompts, str) else prompts, "prompts")
        captions = await self._collect(
            CaptionTask(await image_message_async(image), several, options), timeout_s
        )
        return captions[0] if isinstance(prompts, str) else captions

    @overload
    async def match(  # type: ignore[overload-overlap]
        self,
        image: ImageInput,
        texts: str,
        *,
        model: str | None = None,
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> MatchScores: ...

    @overload
    async def match(
        self,
        image: ImageInput,
        texts: Sequence[str],
        *,
        model: str | None = None,
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> list[MatchScores]: ...

    async def match(
        self,
        image: ImageInput,
        texts: str | Sequence[str],
        *,
        model: str | None = None,
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> MatchScores | list[MatchScores]:
        """Scores how well one text, or each of a list of texts, describes an image.

        The other arguments are those of `ask`.
        """
        options = request_options(model, priority)
        several = texts_of([texts] if isinstance(texts, str) else texts, "texts")
        scores = await self._collect(
            MatchTask(await image_message_async(image), several, options), timeout_s
        )
        return scores[0] if isinstance(texts, str) else scores

    async def embed(
        self,
        *,
        images: Sequence[ImageInput] = (),
        texts: Sequence[str] = (),
        model: str | None = None,
        priority: Priority | None = None,
        timeout_s: float | None = None,
    ) -> Embeddings:
        """Embeds images and texts as vectors of length 1.

        The other arguments are those of `ask`.
        """
        options = request_options(model, priority)
        texts_of([*images, *texts], "images and texts")
        messages = [await image_message_async(image) for image in images]
        embeddings = await self._collect(EmbedTask(messages, texts, options), timeout_s)
        return Embeddings(images=embeddings[: len(images)], texts=embeddings[len(images) :])

    def ask_many(
        self,
        inputs: AsyncIterable[AskInput] | Iterable[AskInput],
        *,
        in_order: bool = True,
        max_in_flight: int = 64,
        model: str | None = None,
        priority: Priority | None = None,
        generation: GenerationOptions | None = None,
        explain: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncIterator[AskResult]:
        """Answers the questions about any number of images, over one `AskStream` call.

        Every input has exactly one result, also if servers fail and others take over. The client
        sends again only what has no answer. Memory is bounded by `max_in_flight` images.

        Args:
            inputs: `ImageQuestions`, or tuples of an image and its questions. The event loop reads
                an iterable that is not asynchronous.
            in_order: Whether results come in the order of the inputs. Otherwise each comes when it
                is ready, and its `index` and `id` identify the input.
            max_in_flight: The number of inputs that are read ahead of the results.
            model: The name of the model. The default is the first one that answers questions.
            priority: The priority when several clients wait.
            generation: How tokens are chosen.
            explain: Whether answers have their `attention`, which shows where the model looked.
            timeout_s: The time limit of the whole run. The default is none.

        Yields:
            The results. The error of a question stands in place of its answer.

        Raises:
            CallError: No server can be reached, or none can process the inputs.
        """
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight: {max_in_flight}, expected at least 1")
        options = request_options(model, priority, generation, explain)
        window = Window(max_in_flight, in_order, options, self._settings.retry)
        run = AsyncRun(self._methods, window, Deadline(timeout_s))
        return run.results(inputs)

    async def models(self, *, timeout_s: float | None = None) -> list[Model]:
        """Returns the models of the server."""
        request = blip_pb2.ListModelsRequest()
        response = await self._call("ListModels", request, timeout_s)
        return [to_results.model(message) for message in response.models]

    async def model(self, name: str = "", *, timeout_s: float | None = None) -> Model:
        """Returns a model of the server. The default is the first one."""
        request = blip_pb2.GetModelRequest(name=name)
        return to_results.model(await self._call("GetModel", request, timeout_s))
