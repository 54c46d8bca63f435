"""The connections and calls of the async client."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from .._connection.methods import methods_of
from .._connection.settings import FilePath, connection_settings
from .._tasks.task import Task
from ..retry import RetryPolicy
from .async_call import call_once, collect
from .attempts import Attempts, Deadline
from .item_results import ItemResults, RequestT, ResponseT, ResultT, raise_item_error

SelfT = TypeVar("SelfT", bound="AsyncConnection")


class AsyncConnection:
    """A channel with its settings. It makes calls of any method."""

    def __init__(
        self,
        server: str | None = None,
        *,
        api_key: str | None = None,
        tls: bool | None = None,
        ca_file: FilePath | None = None,
        cert_file: FilePath | None = None,
        key_file: FilePath | None = None,
        timeout_s: float | None = 60.0,
        retry: RetryPolicy | None = None,
        wait_for_ready: bool = False,
        health_checks: bool = True,
        channel_options: Mapping[str, str | int] | None = None,
    ) -> None:
        """Connects when the first call needs it. The arguments are those of `Client`."""
        self._settings = connection_settings(
            server,
            api_key=api_key,
            tls=tls,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            timeout_s=timeout_s,
            retry=retry,
            wait_for_ready=wait_for_ready,
            health_checks=health_checks,
            channel_options=channel_options,
        )

    async def __aenter__(self: SelfT) -> SelfT:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Calls in progress fail."""
        await self._channel.close()

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        settings = self._settings
        # A channel belongs to the event loop that runs when it is created.
        if settings.credentials is not None:
            return grpc.aio.secure_channel(settings.target, settings.credentials, settings.options)
        return grpc.aio.insecure_channel(settings.target, settings.options)

    @cached_property
    def _methods(self) -> dict[str, Any]:
        return methods_of(self._channel, self._settings.metadata, self._settings.wait_for_ready)

    def _attempts(self, timeout_s: float | None) -> Attempts:
        limit = self._settings.timeout_s if timeout_s is None else timeout_s
        return Attempts(self._settings.retry, Deadline(limit))

    async def _call(self, method: str, request: Message, timeout_s: float | None) -> Any:
        """Returns the response of a method that has one response."""
        return await call_once(self._methods, method, request, self._attempts(timeout_s))

    async def _collect(
        self, task: Task[RequestT, ResponseT, ResultT], timeout_s: float | None
    ) -> list[ResultT]:
        """Returns the results of a task."""
        items = ItemResults(task, self._attempts(timeout_s))
        results = await collect(self._methods, items)
        return raise_item_error(results)
