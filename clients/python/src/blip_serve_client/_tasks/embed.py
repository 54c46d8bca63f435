"""Embeddings of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._proto import blip_pb2, status_pb2
from ..results import Embedding
from . import to_results
from .to_messages import RequestOptions


@dataclass(frozen=True)
class EmbedTask:
    """A task with one item for each image, then one for each text."""

    images: Sequence[blip_pb2.Image]
    texts: Sequence[str]
    options: RequestOptions
    method = "Embed"

    @property
    def count(self) -> int:
        return len(self.images) + len(self.texts)

    def request(self, positions: Sequence[int]) -> blip_pb2.EmbedRequest:
        images = len(self.images)
        return blip_pb2.EmbedRequest(
            images=[self.images[position] for position in positions if position < images],
            texts=[self.texts[position - images] for position in positions if position >= images],
            model=self.options.model,
            priority=self.options.priority,
        )

    def index(self, response: blip_pb2.EmbedResponse, positions: Sequence[int]) -> int:
        if response.HasField("image_index"):
            return response.image_index
        return sum(position < len(self.images) for position in positions) + response.text_index

    def outcome(self, response: blip_pb2.EmbedResponse) -> Embedding | status_pb2.Status | None:
        if response.HasField("embedding"):
            return to_results.embedding(response.embedding)
        return response.error if response.HasField("error") else None
