"""Retries of lost and rejected items."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """How the client sends items again that are lost, or that the server asks it to send again.

    A request changes nothing on the server, so every retry is safe.

    Attributes:
        max_attempts: The number of times that an item is sent. 1 disables retries.
        initial_backoff_s: The longest pause before the first retry. It doubles with each retry.
        max_backoff_s: The limit of that growth. The server can ask for a longer pause.
        retry_timeout_s: `ask_many`: how long it tries to reach a server, and how long it sends an
            item again that the server rejects, in place of `max_attempts`.
    """

    max_attempts: int = 8
    initial_backoff_s: float = 0.2
    max_backoff_s: float = 5.0
    retry_timeout_s: float = 120.0

    def backoff_s(self, retry: int) -> float:
        """Returns a random pause before a retry. The first one has number 1."""
        longest = self.initial_backoff_s * 2.0 ** min(retry - 1, 32)
        return random.uniform(0.0, min(longest, self.max_backoff_s))
