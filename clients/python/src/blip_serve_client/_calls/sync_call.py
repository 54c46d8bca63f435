"""The sync driver of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from ..errors import CallError, ItemError
from .attempts import Attempts
from .item_results import ItemResults, RequestT, ResponseT, ResultT
from .statuses import call_error


def collect(
    methods: Mapping[str, Any], items: ItemResults[RequestT, ResponseT, ResultT]
) -> Sequence[ResultT | ItemError]:
    """Returns a result for each item.

    Raises:
        CallError: A call failed, and a retry cannot succeed.
    """
    while True:
        call = methods[items.method](items.begin(), timeout=items.timeout_s())
        error: CallError | None = None
        try:
            for response in call:
                items.receive(response)
        except grpc.RpcError as failure:
            error = call_error(failure)
        finally:
            call.cancel()
        pause = items.end(error)
        if pause is None:
            return items.results()
        time.sleep(pause)


def call_once(methods: Mapping[str, Any], name: str, request: Message, attempts: Attempts) -> Any:
    """Returns the response of a method that has one response.

    Raises:
        CallError: The call failed, and a retry cannot succeed.
    """
    while True:
        try:
            timeout_s = attempts.deadline.remaining_s()
            return methods[name](request, timeout=timeout_s)
        except grpc.RpcError as failure:
            pause = attempts.pause_after(call_error(failure))
        time.sleep(pause)
