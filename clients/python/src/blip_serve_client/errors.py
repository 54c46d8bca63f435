"""Errors of calls and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class BlipError(Exception):
    """An error of a call or of an item.

    Attributes:
        message: What failed.
        code: The name of the gRPC code, such as `INVALID_ARGUMENT`.
        reason: The reason of the server, such as `IMAGE_UNREADABLE`. Its documentation lists all
            reasons. It is empty if the error does not come from a blip-serve server.
        metadata: The parts of the message: `field`, `value`, `limit` and `cause`.
        field: The invalid field of the request.
        retry_delay_s: The delay after which a retry can succeed, if the server states it.
        request_id: The id of the request in the logs of the server.
        remedy: What to do about it, if that is known.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field: str | None = None,
        retry_delay_s: float | None = None,
        request_id: str | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field = field
        self.retry_delay_s = retry_delay_s
        self.request_id = request_id
        self.remedy = remedy

    def __str__(self) -> str:
        name = self.reason or self.code
        text = f"{self.message} ({name})" if name else self.message
        return f"{text}. {self.remedy}" if self.remedy else text


class CallError(BlipError):
    """An error of a whole call. None of its items has a result."""


class AuthenticationError(CallError):
    """The server does not accept the API key, or the key does not allow the call."""


class ConnectionFailedError(CallError):
    """No server accepted the call, or the connection broke and every retry failed."""


class DeadlineExceededError(CallError):
    """The time limit of the call passed before all results were ready."""


class ItemError(BlipError):
    """An error of one item. The other items of the call have results.

    Attributes:
        results: The results of all items of the call, in order. The result of a failed item is its
            `ItemError`. It is empty for results of `ask_many`.
    """

    results: Sequence[object] = ()


class ImageInputError(ItemError):
    """An image that the client cannot read or encode. The server has not received it."""
