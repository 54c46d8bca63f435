"""Inputs and options as messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar

from .._proto import blip_pb2
from ..inputs import GenerationOptions, Priority, Question

_Text = TypeVar("_Text")
_PRIORITIES = {
    None: blip_pb2.PRIORITY_UNSPECIFIED,
    "low": blip_pb2.PRIORITY_LOW,
    "normal": blip_pb2.PRIORITY_NORMAL,
    "high": blip_pb2.PRIORITY_HIGH,
}


@dataclass(frozen=True)
class RequestOptions:
    """The fields that all requests of a call share."""

    model: str
    priority: blip_pb2.Priority
    generation: blip_pb2.GenerationOptions | None
    explain: bool


def request_options(
    model: str | None,
    priority: Priority | None,
    generation: GenerationOptions | None = None,
    explain: bool = False,
) -> RequestOptions:
    """Returns the options of a request.

    Raises:
        ValueError: The priority is unknown.
    """
    if priority not in _PRIORITIES:
        raise ValueError(f"unknown priority: {priority!r}, expected low, normal or high")
    message = blip_pb2.GenerationOptions(**asdict(generation)) if generation else None
    return RequestOptions(model or "", _PRIORITIES[priority], message, explain)


def question_messages(
    questions: str | Question | Iterable[str | Question],
) -> list[blip_pb2.Question]:
    """Returns the messages of one or more questions."""
    several = [questions] if isinstance(questions, (str, Question)) else questions
    return [_question_message(question) for question in texts_of(several, "questions")]


def texts_of(texts: Iterable[_Text], field: str) -> list[_Text]:
    """Returns texts as a list.

    Raises:
        ValueError: There are none.
    """
    several = list(texts)
    if not several:
        raise ValueError(f"{field} is empty: expected at least one")
    return several


def _question_message(question: str | Question) -> blip_pb2.Question:
    if isinstance(question, str):
        return blip_pb2.Question(text=question)
    return blip_pb2.Question(
        text=question.text, candidates=question.candidates, candidate_list=question.candidate_list
    )
