"""What every task is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from .._proto import status_pb2

RequestT_co = TypeVar("RequestT_co", bound=Message, covariant=True)
ResponseT_contra = TypeVar("ResponseT_contra", bound=Message, contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Task(Protocol[RequestT_co, ResponseT_contra, ResultT_co]):
    """The items of one call.

    An item has a position from 0. A request can hold any of the items, so that a retry sends only
    those without a result.
    """

    @property
    def method(self) -> str:
        """The name of the method."""

    @property
    def count(self) -> int:
        """The number of items."""

    def request(self, positions: Sequence[int]) -> RequestT_co:
        """Returns a request for the items at `positions`, in ascending order."""

    def index(self, response: ResponseT_contra, positions: Sequence[int]) -> int:
        """Returns the index in `positions` of the item that a response is about."""

    def outcome(self, response: ResponseT_contra) -> ResultT_co | status_pb2.Status | None:
        """Returns the result or the error in a response, or None if it has neither."""
