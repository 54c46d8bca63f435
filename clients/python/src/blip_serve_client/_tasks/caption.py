"""Captions of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._proto import blip_pb2, status_pb2
from ..results import Caption
from . import to_results
from .to_messages import RequestOptions


@dataclass(frozen=True)
class CaptionTask:
    """A task with one item for each prompt."""

    image: blip_pb2.Image
    prompts: Sequence[str]
    options: RequestOptions
    method = "Caption"

    @property
    def count(self) -> int:
        return len(self.prompts)

    def request(self, positions: Sequence[int]) -> blip_pb2.CaptionRequest:
        prompts = [self.prompts[position] for position in positions]
        return blip_pb2.CaptionRequest(
            inputs=[blip_pb2.ImagePrompts(image=self.image, prompts=prompts)],
            model=self.options.model,
            priority=self.options.priority,
            generation=self.options.generation,
        )

    def index(self, response: blip_pb2.CaptionResponse, positions: Sequence[int]) -> int:
        return response.prompt_index

    def outcome(self, response: blip_pb2.CaptionResponse) -> Caption | status_pb2.Status | None:
        if response.HasField("caption"):
            return to_results.caption(response.caption)
        return response.error if response.HasField("error") else None
