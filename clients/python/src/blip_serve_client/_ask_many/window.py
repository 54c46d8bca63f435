"""The inputs of an `ask_many` run that have no delivered result."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .._calls.statuses import (
    NOT_SERVING,
    call_error_of_item,
    ended_early,
    item_error,
    item_error_of_call,
    retry_delay_s,
)
from .._proto import blip_pb2
from .._tasks import to_results
from .._tasks.to_messages import RequestOptions
from ..errors import CallError, ItemError
from ..reasons import SCOPES
from ..results import AskResult
from ..retry import RetryPolicy
from .window_input import WindowInput

# These errors apply to every request of the run, because all have the same options.
FATAL_REASONS = {
    "MODEL_UNKNOWN",
    "MODEL_TASK_MISMATCH",
    "GENERATION_OUT_OF_RANGE",
    "GENERATION_CONFLICT",
}


class Window:
    """A bounded number of inputs. Each leaves the window with its result.

    A request has a new tag each time that it is sent. Responses to an earlier request are ignored,
    so every question has one answer.
    """

    def __init__(
        self,
        size: int,
        in_order: bool,
        options: RequestOptions,
        policy: RetryPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size, self._in_order, self._options = size, in_order, options
        self._policy, self._clock = policy, clock
        self._inputs: dict[int, WindowInput] = {}
        self._next_index = 0
        self._input_ended = False
        # The inputs to send, by the time when each is due.
        self._outbox: list[tuple[float, int]] = []
        self._in_flight: dict[str, WindowInput] = {}
        self._next_tag = 0
        # The inputs with a result, in the order in which they got it, unless results are in order.
        self._answered: deque[int] = deque()
        self._lost_calls = 0
        self._lost_since: float | None = None

    # Inputs

    @property
    def has_room(self) -> bool:
        """Whether another input fits."""
        return len(self._inputs) < self._size

    def add(self, id: Any, image: blip_pb2.Image, questions: Sequence[blip_pb2.Question]) -> None:
        """Adds an input, to be sent."""
        added = self._append(id, image, questions)
        heapq.heappush(self._outbox, (0.0, added.index))

    def add_failed(self, id: Any, questions: Sequence[blip_pb2.Question], error: ItemError) -> None:
        """Adds an input that cannot be sent. Its result is an error for each question."""
        failed = self._append(id, blip_pb2.Image(), questions)
        self._reject(failed, error)

    def end_input(self) -> None:
        """Records that no more inputs follow."""
        self._input_ended = True

    # Requests

    @property
    def has_requests(self) -> bool:
        """Whether there are inputs to send, now or later."""
        return bool(self._outbox)

    @property
    def is_answered(self) -> bool:
        """Whether every input has a result and no more inputs follow."""
        return self._input_ended and not self._outbox and not self._in_flight

    def wait_s(self) -> float | None:
        """Returns the time until a request is due, or None if there is none to send."""
        return max(0.0, self._outbox[0][0] - self._clock()) if self._outbox else None

    def next_request(self) -> blip_pb2.AskRequest | None:
        """Returns the next request that is due."""
        if self.wait_s() != 0.0:
            return None
        sent = self._inputs[heapq.heappop(self._outbox)[1]]
        tag = str(self._next_tag)
        self._next_tag += 1
        self._in_flight[tag] = sent
        return blip_pb2.AskRequest(
            inputs=[sent.begin()],
            tag=tag,
            model=self._options.model,
            priority=self._options.priority,
            generation=self._options.generation,
            explain=self._options.explain,
        )

    # Responses

    def receive(self, response: blip_pb2.AskResponse) -> None:
        """Stores the result in a response.

        Raises:
            CallError: The run cannot succeed.
        """
        self._lost_calls, self._lost_since = 0, None
        awaiting = self._in_flight.get(response.tag)
        item = awaiting.awaited_item(response.question_index) if awaiting else None
        if awaiting is None or item is None:
            return
        if response.HasField("answer"):
            awaiting.answers[item] = to_results.answer(response.answer)
            awaiting.awaited.discard(item)
        elif response.HasField("error"):
            self._fail(awaiting, item, item_error(response.error))
        if not awaiting.awaited:
            del self._in_flight[response.tag]
            self._end_attempt(awaiting)

    def lose_call(self, error: CallError | None) -> float:
        """Puts back what the ended call has not answered. Returns the pause before the next call.

        Raises:
            CallError: `error`, if a retry cannot succeed or the outage is too long.
        """
        lost = list(self._in_flight.values())
        self._in_flight.clear()
        pause_follows = True
        if error is not None and error.reason == "MESSAGE_TOO_LARGE" and lost:
            # If one of the requests is too large, the largest one is.
            largest = max(lost, key=lambda each: each.size())
            lost.remove(largest)
            self._reject(largest, item_error_of_call(error))
            pause_follows = False
        for each in lost:
            heapq.heappush(self._outbox, (0.0, each.index))
        if not self._outbox or not pause_follows:
            return 0.0
        error = error or ended_early()
        delay = retry_delay_s(error)
        now = self._clock()
        if self._lost_since is None:
            self._lost_since = now
        if delay is None or now + delay - self._lost_since > self._policy.retry_timeout_s:
            raise error
        self._lost_calls += 1
        return max(delay, self._policy.backoff_s(self._lost_calls))

    # Results

    @property
    def is_complete(self) -> bool:
        """Whether every result is delivered and no more inputs follow."""
        return self._input_ended and not self._inputs

    def next_result(self) -> AskResult | None:
        """Returns the next result to deliver, if it is ready."""
        if self._in_order:
            first = next(iter(self._inputs.values()), None)
            ready = first.index if first is not None and first.is_answered else None
        else:
            ready = self._answered.popleft() if self._answered else None
        return None if ready is None else self._inputs.pop(ready).result()

    def _append(
        self, id: Any, image: blip_pb2.Image, questions: Sequence[blip_pb2.Question]
    ) -> WindowInput:
        added = WindowInput(self._next_index, id, image, questions)
        self._inputs[added.index] = added
        self._next_index += 1
        return added

    def _fail(self, failed: WindowInput, item: int, error: ItemError) -> None:
        """Stores the error of an item, or of the whole request if it applies to that."""
        items = {item}
        if failed.sent.index(item) == 0 and failed.is_first_response():
            scope = SCOPES.get(error.reason, "either")
            if scope == "call":
                items = set(failed.awaited)
            elif scope == "either":
                # No response may follow this one. The other questions are sent again.
                failed.awaited = {item}
        failed.awaited -= items
        delay = retry_delay_s(error)
        if delay is not None:
            now = self._clock()
            if failed.retry_until is None:
                failed.retry_until = now + self._policy.retry_timeout_s
            if now + delay <= failed.retry_until:
                failed.retry_delay_s = max(failed.retry_delay_s or 0.0, delay)
                return
        if error.reason in FATAL_REASONS or error.reason in NOT_SERVING:
            raise call_error_of_item(error)
        failed.answers.update(dict.fromkeys(items, error))

    def _end_attempt(self, ended: WindowInput) -> None:
        """Sends the rejected questions of an input again, or finishes it."""
        if ended.is_answered:
            self._finish(ended)
            return
        due = 0.0
        if ended.retry_delay_s is not None:
            ended.retries += 1
            pause = max(ended.retry_delay_s, self._policy.backoff_s(ended.retries))
            due = self._clock() + pause
        heapq.heappush(self._outbox, (due, ended.index))

    def _reject(self, rejected: WindowInput, error: ItemError) -> None:
        """Finishes an input with an error for each question without an answer."""
        items = range(len(rejected.questions))
        rejected.answers = {item: rejected.answers.get(item, error) for item in items}
        self._finish(rejected)

    def _finish(self, finished: WindowInput) -> None:
        """Releases the image. The result waits for its delivery."""
        finished.image = blip_pb2.Image()
        if not self._in_order:
            self._answered.append(finished.index)
