"""Questions about one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._proto import blip_pb2, status_pb2
from ..results import Answer
from . import to_results
from .to_messages import RequestOptions


@dataclass(frozen=True)
class AskTask:
    """A task with one item for each question."""

    image: blip_pb2.Image
    questions: Sequence[blip_pb2.Question]
    options: RequestOptions
    method = "Ask"

    @property
    def count(self) -> int:
        return len(self.questions)

    def request(self, positions: Sequence[int]) -> blip_pb2.AskRequest:
        questions = [self.questions[position] for position in positions]
        return blip_pb2.AskRequest(
            inputs=[blip_pb2.ImageQuestions(image=self.image, questions=questions)],
            model=self.options.model,
            priority=self.options.priority,
            generation=self.options.generation,
            explain=self.options.explain,
        )

    def index(self, response: blip_pb2.AskResponse, positions: Sequence[int]) -> int:
        return response.question_index

    def outcome(self, response: blip_pb2.AskResponse) -> Answer | status_pb2.Status | None:
        if response.HasField("answer"):
            return to_results.answer(response.answer)
        return response.error if response.HasField("error") else None
