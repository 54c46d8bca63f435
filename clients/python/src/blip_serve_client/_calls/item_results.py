"""The results of the items of one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from google.protobuf.message import Message

from .._proto import status_pb2
from .._tasks.task import Task
from ..errors import CallError, ItemError
from .attempts import Attempts
from .statuses import ended_early, item_error, retry_delay_s

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
ResultT = TypeVar("ResultT")


class ItemResults(Generic[RequestT, ResponseT, ResultT]):
    """Collects one result for each item of a task, over as many attempts as that takes.

    An attempt begins with `begin`, passes each response to `receive`, and ends with `end`.
    """

    def __init__(self, task: Task[RequestT, ResponseT, ResultT], attempts: Attempts) -> None:
        self._task = task
        self._attempts = attempts
        self._sent: list[int] = []
        self._results: dict[int, ResultT | ItemError] = {}
        # The errors of items that can be sent again.
        self._rejected: dict[int, ItemError] = {}

    @property
    def method(self) -> str:
        """The name of the method to call."""
        return self._task.method

    def timeout_s(self) -> float | None:
        """Returns the time limit of the next attempt."""
        return self._attempts.deadline.remaining_s()

    def begin(self) -> RequestT:
        """Begins an attempt and returns its request: the items without a result."""
        self._sent = [item for item in range(self._task.count) if item not in self._results]
        self._rejected.clear()
        return self._task.request(self._sent)

    def receive(self, response: ResponseT) -> None:
        """Stores the result in a response. An item has the first one that it receives."""
        index = self._task.index(response, self._sent)
        outcome = self._task.outcome(response)
        if outcome is None or index >= len(self._sent) or self._sent[index] in self._results:
            return
        item = self._sent[index]
        if not isinstance(outcome, status_pb2.Status):
            self._results[item] = outcome
            return
        error = item_error(outcome)
        if retry_delay_s(error) is None or self._attempts.is_last:
            self._results[item] = error
        else:
            self._rejected[item] = error

    def end(self, error: CallError | None) -> float | None:
        """Ends an attempt. Returns the pause before the next one, or None if no item is left.

        Raises:
            CallError: Items have no result, and a retry cannot succeed.
        """
        if len(self._results) == self._task.count:
            return None
        if error is None and len(self._results) + len(self._rejected) < self._task.count:
            error = ended_early()
        delays = [retry_delay_s(rejected) or 0.0 for rejected in self._rejected.values()]
        if error is not None:
            delay = retry_delay_s(error)
            if delay is None:
                raise error
            delays.append(delay)
        try:
            return self._attempts.pause_s(max(delays), error)
        except CallError:
            if error is not None:
                raise
        # No time is left for items that the server rejected. Their errors say why.
        self._results.update(self._rejected)
        return None

    def results(self) -> Sequence[ResultT | ItemError]:
        """Returns the results in the order of the items."""
        return [self._results[item] for item in range(self._task.count)]


def raise_item_error(results: Sequence[ResultT | ItemError]) -> list[ResultT]:
    """Returns results without errors.

    Raises:
        ItemError: The first error, with all results.
    """
    answers = []
    for result in results:
        if isinstance(result, ItemError):
            result.results = results
            raise result
        answers.append(result)
    return answers
