"""The methods of the contract."""

from __future__ import annotations

from functools import partial
from typing import Any

from google.protobuf.message import Message

from .._proto import blip_pb2

Metadata = tuple[tuple[str, str], ...]

#: The kind and the type of response of each method. Kinds are those of `grpc.Channel`.
_METHODS: dict[str, tuple[str, type[Message]]] = {
    "Ask": ("unary_stream", blip_pb2.AskResponse),
    "AskStream": ("stream_stream", blip_pb2.AskResponse),
    "Caption": ("unary_stream", blip_pb2.CaptionResponse),
    "Match": ("unary_stream", blip_pb2.MatchResponse),
    "Embed": ("unary_stream", blip_pb2.EmbedResponse),
    "ListModels": ("unary_unary", blip_pb2.ListModelsResponse),
    "GetModel": ("unary_unary", blip_pb2.Model),
}


def methods_of(channel: Any, metadata: Metadata, wait_for_ready: bool) -> dict[str, Any]:
    """Returns a callable for each method on a channel, a sync or an async one.

    Calls send `metadata`. With `wait_for_ready`, a call that finds no server waits for one. A
    stream of requests has no time limit, so it never waits.
    """
    methods = {}
    for name, (kind, response) in _METHODS.items():
        method = getattr(channel, kind)(
            f"/blip.v1.BlipService/{name}",
            request_serializer=_serialize,
            response_deserializer=response.FromString,
        )
        waits = wait_for_ready and kind != "stream_stream"
        methods[name] = partial(method, metadata=metadata, wait_for_ready=waits)
    return methods


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
