"""What callers ask: questions, options, and the inputs of `ask_many`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from .images import ImageInput

#: The priority of a request when several clients wait.
Priority = Literal["low", "normal", "high"]


@dataclass(frozen=True)
class Question:
    """A question in natural language.

    Attributes:
        text: The question.
        candidates: The answers to choose from. Without candidates, the model generates the answer.
        candidate_list: The name of a candidate list of the server, in place of `candidates`.
    """

    text: str
    candidates: Sequence[str] = ()
    candidate_list: str = ""


@dataclass(frozen=True)
class ImageQuestions:
    """An image with the questions about it: an input of `ask_many`.

    Attributes:
        image: The image.
        questions: One or more questions.
        id: Any value. The result has the same one.
    """

    image: ImageInput
    questions: str | Question | Sequence[str | Question]
    id: Any = None


#: An input of `ask_many`. A tuple is an image and its questions.
AskInput = Union[ImageQuestions, "tuple[ImageInput, str | Question | Sequence[str | Question]]"]


def to_image_questions(value: AskInput) -> ImageQuestions:
    """Returns an input of `ask_many` in its full form.

    Raises:
        TypeError: The value is neither an `ImageQuestions` nor a tuple.
    """
    if isinstance(value, ImageQuestions):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        return ImageQuestions(*value)
    raise TypeError(
        f"not an input: {type(value).__name__}, expected ImageQuestions or (image, questions)"
    )


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How tokens are chosen, with the meaning that each option has in `transformers`.

    An option that is `None` has the default of the model.

    Attributes:
        num_beams: The number of hypotheses of beam search. 1 is greedy search.
        max_new_tokens: The maximum number of generated tokens, including the stop token.
        min_length: The number of tokens before the stop token is allowed.
        length_penalty: Beam search: a value above 0 favours long hypotheses.
        repetition_penalty: A value above 1 makes repeated tokens less likely.
        sample: Whether tokens are sampled instead of choosing the most likely one.
        temperature: Sampling: the divisor of the logits.
        top_k: Sampling: the number of most likely tokens to sample from.
        top_p: Sampling: the total probability of the most likely tokens to sample from.
        seed: Sampling: the seed. The same seed and input have the same result.
        num_answers: The number of results. The first is the answer, the others are its
            `alternatives`.
    """

    num_beams: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    length_penalty: float | None = None
    repetition_penalty: float | None = None
    sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    num_answers: int | None = None
