"""One input of `ask_many` on its way to a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .._proto import blip_pb2
from ..errors import ItemError
from ..results import Answer, AskResult


@dataclass
class WindowInput:
    """An input whose result is not delivered.

    Attributes:
        index: Its position among the inputs.
        id: The id that the caller gave it.
        image: The image, until every question has an answer.
        questions: Its questions.
        answers: The answer or the final error of questions.
        sent: The positions of the questions in its last request.
        awaited: Those of them without a response.
        retry_delay_s: The least delay before the next request, if one of them was rejected.
        retry_until: The time after which a rejection is final.
        retries: The number of requests after rejections.
    """

    index: int
    id: Any
    image: blip_pb2.Image
    questions: Sequence[blip_pb2.Question]
    answers: dict[int, Answer | ItemError] = field(default_factory=dict)
    sent: list[int] = field(default_factory=list)
    awaited: set[int] = field(default_factory=set)
    retry_delay_s: float | None = None
    retry_until: float | None = None
    retries: int = 0

    def begin(self) -> blip_pb2.ImageQuestions:
        """Begins an attempt and returns the questions without an answer."""
        self.sent = [item for item in range(len(self.questions)) if item not in self.answers]
        self.awaited = set(self.sent)
        self.retry_delay_s = None
        questions = [self.questions[item] for item in self.sent]
        return blip_pb2.ImageQuestions(image=self.image, questions=questions)

    def awaited_item(self, question_index: int) -> int | None:
        """Returns the question that a response is about, or None if none is awaited for it."""
        item = self.sent[question_index] if question_index < len(self.sent) else None
        return item if item in self.awaited else None

    def size(self) -> int:
        """Returns about the number of bytes of its last request."""
        return self.image.ByteSize() + sum(self.questions[item].ByteSize() for item in self.sent)

    def is_first_response(self) -> bool:
        """Returns whether no response to the last request has arrived."""
        return len(self.awaited) == len(self.sent)

    @property
    def is_answered(self) -> bool:
        """Whether every question has an answer or an error."""
        return len(self.answers) == len(self.questions)

    def result(self) -> AskResult:
        """Returns the result. Every question has an answer."""
        answers = [self.answers[item] for item in range(len(self.questions))]
        return AskResult(index=self.index, id=self.id, answers=answers)
