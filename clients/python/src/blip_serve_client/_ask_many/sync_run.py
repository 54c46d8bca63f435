"""The sync driver of `ask_many`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc

from .._calls.attempts import Deadline
from .._calls.statuses import call_error
from .._proto import blip_pb2
from .._tasks.to_messages import question_messages
from ..errors import CallError, ImageInputError
from ..images import image_message
from ..inputs import AskInput, ImageQuestions, to_image_questions
from ..results import AskResult
from .window import Window


class SyncRun:
    """One run. A thread reads inputs, another one makes calls, and gRPC sends in a third one."""

    def __init__(self, methods: Mapping[str, Any], window: Window, deadline: Deadline) -> None:
        self._methods, self._window, self._deadline = methods, window, deadline
        # Guards everything below and the window.
        self._changed = threading.Condition()
        self._is_stopped = False
        self._call: Any = None
        self._input_error: BaseException | None = None
        self._error: BaseException | None = None

    def results(self, inputs: Iterable[AskInput]) -> Iterator[AskResult]:
        """Yields a result for each input."""
        for target, arguments in ((self._read_inputs, (inputs,)), (self._make_calls, ())):
            threading.Thread(target=target, args=arguments, daemon=True, name="ask_many").start()
        try:
            while (result := self._next_result()) is not None:
                yield result
        finally:
            self._stop()

    def _next_result(self) -> AskResult | None:
        """Waits for the next result. Returns None after the last one."""
        with self._changed:
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
                self._changed.wait()

    def _stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            call = self._call
            self._changed.notify_all()
        # A call that has ended by itself is not affected.
        if call is not None and not self._window.is_answered:
            call.cancel()

    # Inputs

    def _read_inputs(self, inputs: Iterable[AskInput]) -> None:
        try:
            iterator = iter(inputs)
            while self._wait_for_room():
                try:
                    added = next(iterator)
                except StopIteration:
                    break
                self._add(to_image_questions(added))
        except BaseException as error:
            self._input_error = error
        with self._changed:
            self._window.end_input()
            self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        """Waits for room in the window. Returns whether the run continues."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._window.has_room)
            return not self._is_stopped

    def _add(self, added: ImageQuestions) -> None:
        questions = question_messages(added.questions)
        try:
            image = image_message(added.image)
        except ImageInputError as error:
            with self._changed:
                self._window.add_failed(added.id, questions, error)
                self._changed.notify_all()
            return
        with self._changed:
            self._window.add(added.id, image, questions)
            self._changed.notify_all()

    # Calls

    def _make_calls(self) -> None:
        try:
            while self._wait_for_requests():
                pause = self._make_call()
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopped, pause)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _wait_for_requests(self) -> bool:
        """Waits for something to send. Returns whether there is."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_stopped or self._window.has_requests or self._window.is_answered
            )
            return not self._is_stopped and not self._window.is_answered

    def _make_call(self) -> float:
        """Makes one call. Returns the pause before the next one."""
        timeout_s = self._deadline.remaining_s()
        requests = _Requests(self._window, self._changed)
        call = self._methods["AskStream"](requests, timeout=timeout_s)
        with self._changed:
            self._call = call
            if self._is_stopped:
                call.cancel()
        error: CallError | None = None
        try:
            for response in call:
                with self._changed:
                    self._window.receive(response)
                    self._changed.notify_all()
        except grpc.RpcError as failure:
            error = call_error(failure)
        finally:
            with self._changed:
                requests.is_ended = True
                self._changed.notify_all()
            call.cancel()
        with self._changed:
            return 0.0 if self._is_stopped else self._window.lose_call(error)


class _Requests(Iterator[blip_pb2.AskRequest]):
    """The requests of one call, until it ends or every input has a result."""

    def __init__(self, window: Window, changed: threading.Condition) -> None:
        self._window, self._changed = window, changed
        self.is_ended = False

    def __next__(self) -> blip_pb2.AskRequest:
        with self._changed:
            while not self.is_ended and not self._window.is_answered:
                request = self._window.next_request()
                if request is not None:
                    return request
                self._changed.wait(self._window.wait_s())
        raise StopIteration
