"""The connections and calls of the sync client."""

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
from .attempts import Attempts, Deadline
from .item_results import ItemResults, RequestT, ResponseT, ResultT, raise_item_error
from .sync_call import call_once, collect

SelfT = TypeVar("SelfT", bound="SyncConnection")


class SyncConnection:
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
        """Connects to a server when the first call needs it.

        Args:
            server: `host:port`, an http or https URL, or a gRPC target. The targets
                `dns:///name:port` and `ipv4:address:port,address:port` stand for several servers,
                among which calls are balanced. The default is the environment variable
                `BLIP_SERVE__SERVER`, or else `127.0.0.1:50051`.
            api_key: The API key. The default is the environment variable `BLIP_SERVE__API_KEY`.
            tls: Whether to use TLS. The default is the scheme of `server`, or else whether a file
                of certificates is given.
            ca_file: Certificates of the authorities to trust, in PEM. The default is public ones.
            cert_file: The certificate of this client, in PEM.
            key_file: Its private key, in PEM.
            timeout_s: The time limit of a call with all its retries. None is no limit. `ask_many`
                has a separate one.
            retry: How lost and rejected items are sent again.
            wait_for_ready: Whether a call that finds no server waits for one, up to its time
                limit. By default it fails after the attempts of `retry`.
            health_checks: Whether the client leaves a server that reports that it does not serve.
                Disable it behind a proxy.
            channel_options: Options of gRPC channels, which replace those of this package.

        Raises:
            ValueError: Arguments are invalid or conflict.
            OSError: A file of certificates cannot be read.
        """
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

    def __enter__(self: SelfT) -> SelfT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Calls in progress fail."""
        self._channel.close()

    @cached_property
    def _channel(self) -> grpc.Channel:
        settings = self._settings
        if settings.credentials is not None:
            return grpc.secure_channel(settings.target, settings.credentials, settings.options)
        return grpc.insecure_channel(settings.target, settings.options)

    @cached_property
    def _methods(self) -> dict[str, Any]:
        return methods_of(self._channel, self._settings.metadata, self._settings.wait_for_ready)

    def _attempts(self, timeout_s: float | None) -> Attempts:
        limit = self._settings.timeout_s if timeout_s is None else timeout_s
        return Attempts(self._settings.retry, Deadline(limit))

    def _call(self, method: str, request: Message, timeout_s: float | None) -> Any:
        """Returns the response of a method that has one response."""
        return call_once(self._methods, method, request, self._attempts(timeout_s))

    def _collect(
        self, task: Task[RequestT, ResponseT, ResultT], timeout_s: float | None
    ) -> list[ResultT]:
        """Returns the results of a task."""
        items = ItemResults(task, self._attempts(timeout_s))
        results = collect(self._methods, items)
        return raise_item_error(results)
