"""The async driver of `ask_many`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

import grpc

from .._calls.attempts import Deadline
from .._calls.statuses import call_error
from .._proto import blip_pb2
from .._tasks.to_messages import question_messages
from ..errors import CallError, ImageInputError
from ..images import image_message_async
from ..inputs import AskInput, to_image_questions
from ..results import AskResult
from .window import Window


class AsyncRun:
    """One run. A task reads inputs, another one makes calls, and gRPC sends in a third one."""

    def __init__(self, methods: Mapping[str, Any], window: Window, deadline: Deadline) -> None:
        self._methods, self._window, self._deadline = methods, window, deadline
        self._changed = asyncio.Condition()
        self._input_error: Exception | None = None
        self._error: Exception | None = None

    async def results(
        self, inputs: AsyncIterable[AskInput] | Iterable[AskInput]
    ) -> AsyncIterator[AskResult]:
        """Yields a result for each input."""
        tasks = [
            asyncio.create_task(self._read_inputs(inputs)),
            asyncio.create_task(self._make_calls()),
        ]
        try:
            while (result := await self._next_result()) is not None:
                yield result
        finally:
            if not self._window.is_answered:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next_result(self) -> AskResult | None:
        """Waits for the next result. Returns None after the last one."""
        async with self._changed:
            while True:
                result = self._window.next_result()
                if result is not None:
                    self._changed.notify_all()
                    return result
                if self._window.is_complete:
                    if self._input_error is not None:
                        raise self._input_error
                    return None
                if self._error is not None:
                    raise self._error
                await self._changed.wait()

    # Inputs

    async def _read_inputs(self, inputs: AsyncIterable[AskInput] | Iterable[AskInput]) -> None:
        try:
            iterator = _async_iterator(inputs)
            while await self._wait_for_room():
                try:
                    added = await anext(iterator)
                except StopAsyncIteration:
                    break
                await self._add(added)
        except Exception as error:
            self._input_error = error
        async with self._changed:
            self._window.end_input()
            self._changed.notify_all()

    async def _wait_for_room(self) -> bool:
        """Waits for room in the window."""
        async with self._changed:
            return await self._changed.wait_for(lambda: self._window.has_room)

    async def _add(self, value: AskInput) -> None:
        added = to_image_questions(value)
        questions = question_messages(added.questions)
        try:
            image = await image_message_async(added.image)
        except ImageInputError as error:
            self._window.add_failed(added.id, questions, error)
        else:
            self._window.add(added.id, image, questions)
        async with self._changed:
            self._changed.notify_all()

    # Calls

    async def _make_calls(self) -> None:
        try:
            while await self._wait_for_requests():
                await asyncio.sleep(await self._make_call())
        except Exception as error:
            async with self._changed:
                self._error = error
                self._changed.notify_all()

    async def _wait_for_requests(self) -> bool:
        """Waits for something to send. Returns whether there is."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._window.has_requests or self._window.is_answered
            )
            return not self._window.is_answered

    async def _make_call(self) -> float:
        """Makes one call. Returns the pause before the next one."""
        timeout_s = self._deadline.remaining_s()
        sender = _Sender(self._window, self._changed)
        call = self._methods["AskStream"](sender.requests(), timeout=timeout_s)
        error: CallError | None = None
        try:
            async for response in call:
                self._window.receive(response)
                async with self._changed:
                    self._changed.notify_all()
        except grpc.RpcError as failure:
            error = call_error(failure)
        finally:
            sender.is_ended = True
            call.cancel()
        async with self._changed:
            self._changed.notify_all()
        return self._window.lose_call(error)


class _Sender:
    """Sends the requests of one call, until it ends or every input has a result."""

    def __init__(self, window: Window, changed: asyncio.Condition) -> None:
        self._window, self._changed = window, changed
        self.is_ended = False

    async def requests(self) -> AsyncIterator[blip_pb2.AskRequest]:
        while (request := await self._next()) is not None:
            yield request

    async def _next(self) -> blip_pb2.AskRequest | None:
        async with self._changed:
            while not self.is_ended and not self._window.is_answered:
                request = self._window.next_request()
                if request is not None:
                    return request
                await _wait(self._changed, self._window.wait_s())
            return None


async def _wait(changed: asyncio.Condition, timeout_s: float | None) -> None:
    """Waits for a change, at most for this time."""
    try:
        await asyncio.wait_for(changed.wait(), timeout_s)
    except asyncio.TimeoutError:
        pass


async def _async_iterator(
    inputs: AsyncIterable[AskInput] | Iterable[AskInput],
) -> AsyncIterator[AskInput]:
    if isinstance(inputs, AsyncIterable):
        async for value in inputs:
            yield value
    else:
        for value in inputs:
            yield value
