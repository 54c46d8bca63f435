"""Match scores of one image and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._proto import blip_pb2, status_pb2
from ..results import MatchScores
from . import to_results
from .to_messages import RequestOptions


@dataclass(frozen=True)
class MatchTask:
    """A task with one item for each text."""

    image: blip_pb2.Image
    texts: Sequence[str]
    options: RequestOptions
    method = "Match"

    @property
    def count(self) -> int:
        return len(self.texts)

    def request(self, positions: Sequence[int]) -> blip_pb2.MatchRequest:
        texts = [self.texts[position] for position in positions]
        return blip_pb2.MatchRequest(
            inputs=[blip_pb2.ImageTexts(image=self.image, texts=texts)],
            model=self.options.model,
            priority=self.options.priority,
        )

    def index(self, response: blip_pb2.MatchResponse, positions: Sequence[int]) -> int:
        return response.text_index

    def outcome(self, response: blip_pb2.MatchResponse) -> MatchScores | status_pb2.Status | None:
        if response.HasField("match"):
            return to_results.match_scores(response.match)
        return response.error if response.HasField("error") else None
