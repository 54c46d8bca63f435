"""When to retry a call, and when to give up."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import CallError, DeadlineExceededError
from ..retry import RetryPolicy
from .statuses import retry_delay_s


class Deadline:
    """The end of the time that a call has, with all its retries."""

    def __init__(
        self, timeout_s: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._end = None if timeout_s is None else clock() + timeout_s

    def remaining_s(self) -> float | None:
        """Returns the remaining time, or None if it is unlimited.

        Raises:
            DeadlineExceededError: No time remains.
        """
        if self._end is None:
            return None
        remaining = self._end - self._clock()
        if remaining <= 0:
            raise self.error()
        return remaining

    def has(self, seconds: float) -> bool:
        """Returns whether more than this time remains."""
        return self._end is None or self._end - self._clock() > seconds

    def error(self) -> DeadlineExceededError:
        """Returns the error of a call that takes longer."""
        return DeadlineExceededError(
            f"the call took longer than {self._timeout_s} s", code="DEADLINE_EXCEEDED"
        )


class Attempts:
    """The attempts of one call."""

    def __init__(self, policy: RetryPolicy, deadline: Deadline) -> None:
        self.deadline = deadline
        self._policy = policy
        self._number = 1

    @property
    def is_last(self) -> bool:
        """Whether no attempt can follow the current one."""
        return self._number >= self._policy.max_attempts

    def pause_s(self, least_s: float, error: CallError | None) -> float:
        """Begins another attempt and returns the pause before it.

        Raises:
            CallError: `error`, if the call has no time or attempts left.
        """
        pause = max(least_s, self._policy.backoff_s(self._number))
        if self.is_last or not self.deadline.has(pause):
            raise error or self.deadline.error()
        self._number += 1
        return pause

    def pause_after(self, error: CallError) -> float:
        """Begins another attempt after an error and returns the pause before it.

        Raises:
            CallError: `error`, if a retry cannot succeed, or no time or attempts are left.
        """
        delay = retry_delay_s(error)
        if delay is None:
            raise error
        return self.pause_s(delay, error)
