"""Results of items, and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ItemError


@dataclass(frozen=True)
class Timing:
    """The time that each stage of one result took, in milliseconds.

    Attributes:
        queue_ms: From admission to the start of the batch.
        preprocess_ms: Decoding and scaling of the image.
        vision_ms: The vision encoder.
        text_ms: The text encoder.
        decode_ms: Generation.
        total_ms: From the arrival of the whole request to this result.
        fetch_ms: Fetching of the image by its URL.
        batch_images: The number of distinct images in the batch.
        batch_questions: The number of questions in the batch.
        image_reused: Whether the image features were cached.
        answer_shared: Whether an identical question in flight has the same answer.
        answer_reused: Whether the answer was cached.
    """

    queue_ms: float
    preprocess_ms: float
    vision_ms: float
    text_ms: float
    decode_ms: float
    total_ms: float
    fetch_ms: float
    batch_images: int
    batch_questions: int
    image_reused: bool
    answer_shared: bool
    answer_reused: bool


@dataclass(frozen=True)
class Alternative:
    """A result that was not the best. Its attributes are those of `Answer`."""

    text: str
    score: float
    token_ids: tuple[int, ...]
    probability: float | None = None
    candidate_index: int | None = None


@dataclass(frozen=True)
class AttentionMap:
    """How much an answer attends to each patch of its image.

    It shows what the model read, which is not always the reason of the answer.

    Attributes:
        rows: The number of rows of patches.
        columns: The number of patches in a row.
        weights: The weight of each patch, row by row, top left first. Their sum is 1.
    """

    rows: int
    columns: int
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Answer:
    """The answer to one question about one image.

    Attributes:
        text: The generated text, or the best candidate.
        score: The natural logarithm of the probability that the model gives this answer.
        margin: The smallest lead of a chosen token over the second best.
        token_ids: The generated tokens.
        timing: The time that each stage took.
        alternatives: The next best answers, if `num_answers` requests them.
        probability: The probability of a candidate among the candidates.
        candidate_index: The position of a candidate in its list.
        attention: Where the model looked, if the call has `explain`.
    """

    text: str
    score: float
    margin: float
    token_ids: tuple[int, ...]
    timing: Timing
    alternatives: tuple[Alternative, ...] = ()
    probability: float | None = None
    candidate_index: int | None = None
    attention: AttentionMap | None = None


@dataclass(frozen=True)
class Caption:
    """A caption of one image. Its attributes are those of `Answer`."""

    text: str
    score: float
    margin: float
    token_ids: tuple[int, ...]
    timing: Timing
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class MatchScores:
    """How well a text describes an image.

    Attributes:
        probability: The probability that the text describes the image.
        cosine: The cosine of the embeddings of image and text, from -1 to 1.
        logits: The logits for "does not describe" and "describes".
        timing: The time that each stage took.
    """

    probability: float
    cosine: float
    logits: tuple[float, ...]
    timing: Timing


@dataclass(frozen=True)
class Embedding:
    """An image or a text as a vector of length 1.

    Attributes:
        values: The elements of the vector.
        timing: The time that each stage took.
    """

    values: tuple[float, ...]
    timing: Timing


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a call, in the order of its images and texts."""

    images: Sequence[Embedding]
    texts: Sequence[Embedding]


@dataclass(frozen=True)
class AskResult:
    """The results of one input of `ask_many`.

    Attributes:
        index: The position of the input, from 0.
        id: The `id` of the input.
        answers: An answer or an error for each question, in order.
    """

    index: int
    id: Any
    answers: Sequence[Answer | ItemError]

    @property
    def answer(self) -> Answer:
        """The answer to the first question. Raises its `ItemError` if it failed."""
        first = self.answers[0]
        if isinstance(first, ItemError):
            raise first
        return first


@dataclass(frozen=True)
class Model:
    """A model of the server.

    Attributes:
        name: The name by which calls select the model.
        source: An embedded model, the name of a folder, or a name on the Hugging Face hub.
        revision: The commit on the hub.
        task: `question_answering`, `captioning` or `matching`.
        device: The device, such as `cuda:0` or `cpu`.
        dtype: The number format.
        image_size: The height and width of scaled images, in pixels.
        max_text_tokens: The maximum length of a text in tokens.
        max_new_tokens: The default maximum of generated tokens. 0 if it generates no text.
        embedding_size: The length of an embedding. 0 if it makes none.
        parameters: The number of parameters.
        conventions: `hf` or `salesforce`.
        candidate_lists: The names of the candidate lists that questions may select.
    """

    name: str
    source: str
    revision: str
    task: str
    device: str
    dtype: str
    image_size: int
    max_text_tokens: int
    max_new_tokens: int
    embedding_size: int
    parameters: int
    conventions: str
    candidate_lists: tuple[str, ...]
