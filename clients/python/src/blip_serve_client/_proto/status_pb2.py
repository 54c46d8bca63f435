"""Messages of google/rpc/status.proto."""

from .pool import define

define("google/rpc/status.proto", globals())
