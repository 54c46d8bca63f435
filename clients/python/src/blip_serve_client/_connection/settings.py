"""How a client connects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import grpc

from ..retry import RetryPolicy
from .channel_options import ChannelOption, options_of
from .methods import Metadata
from .target import parse_target

DEFAULT_SERVER = "127.0.0.1:50051"
SERVER_VARIABLE = "BLIP_SERVE__SERVER"
KEY_VARIABLE = "BLIP_SERVE__API_KEY"
FilePath = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class ConnectionSettings:
    """What a channel and its calls need."""

    target: str
    options: list[ChannelOption]
    credentials: grpc.ChannelCredentials | None
    metadata: Metadata
    wait_for_ready: bool
    timeout_s: float | None
    retry: RetryPolicy


def connection_settings(
    server: str | None,
    *,
    api_key: str | None,
    tls: bool | None,
    ca_file: FilePath | None,
    cert_file: FilePath | None,
    key_file: FilePath | None,
    timeout_s: float | None,
    retry: RetryPolicy | None,
    wait_for_ready: bool,
    health_checks: bool,
    channel_options: Mapping[str, str | int] | None,
) -> ConnectionSettings:
    """Returns the settings for the arguments of a client.

    Raises:
        ValueError: Arguments are invalid or conflict.
        OSError: A file cannot be read.
    """
    target = parse_target(server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER)
    files = (ca_file, key_file, cert_file)
    if (cert_file is None) != (key_file is None):
        raise ValueError("cert_file and key_file: expected both or none")
    has_tls = tls if tls is not None else target.uses_tls
    if has_tls is None:
        has_tls = any(file is not None for file in files)
    if (
        target.uses_tls not in (None, has_tls)
        or not has_tls
        and any(file is not None for file in files)
    ):
        raise ValueError(f"TLS: conflict of server {server!r}, tls and the files of certificates")
    credentials = None
    if has_tls:
        credentials = grpc.ssl_channel_credentials(
            *(Path(file).read_bytes() if file is not None else None for file in files)
        )
    key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE)
    return ConnectionSettings(
        target=target.name,
        options=options_of(target, health_checks, channel_options),
        credentials=credentials,
        metadata=(("x-api-key", key),) if key else (),
        wait_for_ready=wait_for_ready,
        timeout_s=timeout_s,
        retry=retry or RetryPolicy(),
    )
