"""Options of gRPC channels."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .._version import VERSION
from .target import Target

ChannelOption = tuple[str, "str | int"]

_DEFAULTS: Mapping[str, str | int] = {
    "grpc.primary_user_agent": f"blip-serve-client/{VERSION}",
    # Limits the delay until a restarted server is used. The default is two minutes.
    "grpc.max_reconnect_backoff_ms": 5_000,
    "grpc.initial_reconnect_backoff_ms": 200,
    # Closes a connection 40 seconds after its peer stops responding.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    # The same for pings that gRPC sends to measure the connection. Their default of a minute would
    # hold keepalive up.
    "grpc.http2.ping_timeout_ms": 10_000,
    # By default gRPC sends one ping a minute while a call waits for responses.
    "grpc.http2.max_pings_without_data": 0,
    # The contract limits responses in other ways.
    "grpc.max_receive_message_length": -1,
}


def options_of(
    target: Target, has_health_checks: bool, options: Mapping[str, str | int] | None
) -> list[ChannelOption]:
    """Returns the options of a channel. `options` replace the defaults."""
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if has_health_checks:
        config["healthCheckConfig"] = {"serviceName": ""}
    authority = {"grpc.default_authority": target.authority} if target.authority else {}
    service_config = {"grpc.service_config": json.dumps(config)}
    return [*{**_DEFAULTS, **service_config, **authority, **(options or {})}.items()]
