"""Messages of google/rpc/error_details.proto."""

from .pool import define

define("google/rpc/error_details.proto", globals())
