"""Messages of blip/v1/blip.proto."""

from .pool import define

define("blip/v1/blip.proto", globals())
