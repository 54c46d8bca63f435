"""The address of one or more servers."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORT = 50051


@dataclass(frozen=True)
class Target:
    """A name that gRPC resolves.

    Attributes:
        name: The gRPC target.
        uses_tls: Whether the scheme requires TLS or excludes it. None if it says neither.
        authority: The value of `:authority`, if gRPC's choice would be invalid.
    """

    name: str
    uses_tls: bool | None = None
    authority: str | None = None


def parse_target(server: str) -> Target:
    """Returns the target for `host:port`, a URL with http or https, or a gRPC target.

    Raises:
        ValueError: The address is invalid.
    """
    scheme, separator, _ = server.partition("://")
    if separator and scheme in ("http", "https"):
        url = urlsplit(server)
        if not url.hostname or url.path not in ("", "/") or url.query or url.username:
            raise ValueError(f"invalid server: {server!r}, expected a host and a port")
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        default = 443 if scheme == "https" else 80
        return Target(f"{host}:{url.port or default}", uses_tls=scheme == "https")
    kind, _, addresses = server.partition(":")
    if kind in ("ipv4", "ipv6"):
        # By default gRPC sends a list of addresses whole as :authority of every call. Servers
        # reset such calls, because the list is not a valid authority.
        first, _, others = addresses.partition(",")
        return Target(server, authority=first if others else None)
    if not server or server.isspace():
        raise ValueError(f"invalid server: {server!r}, expected a host and a port")
    is_host = ":" not in server and "/" not in server
    return Target(f"{server}:{_DEFAULT_PORT}" if is_host else server)
