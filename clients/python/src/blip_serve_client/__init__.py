"""A client of blip-serve: answers, captions, match scores and embeddings by BLIP models.

    from blip_serve_client import Client

    with Client("localhost:50051") as client:
        print(client.ask("cat.jpg", "is it asleep?").text)

`AsyncClient` has the same methods for asyncio.
"""

from ._version import VERSION as __version__
from .async_client import AsyncClient
from .client import Client
from .errors import (
    AuthenticationError,
    BlipError,
    CallError,
    ConnectionFailedError,
    DeadlineExceededError,
    ImageInputError,
    ItemError,
)
from .images import ImageInput
from .inputs import AskInput, GenerationOptions, ImageQuestions, Priority, Question
from .results import (
    Alternative,
    Answer,
    AskResult,
    AttentionMap,
    Caption,
    Embedding,
    Embeddings,
    MatchScores,
    Model,
    Timing,
)
from .retry import RetryPolicy

__all__ = [
    "Alternative",
    "Answer",
    "AskInput",
    "AskResult",
    "AsyncClient",
    "AttentionMap",
    "AuthenticationError",
    "BlipError",
    "CallError",
    "Caption",
    "Client",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "Embedding",
    "Embeddings",
    "GenerationOptions",
    "ImageInput",
    "ImageInputError",
    "ImageQuestions",
    "ItemError",
    "MatchScores",
    "Model",
    "Priority",
    "Question",
    "RetryPolicy",
    "Timing",
    "__version__",
]
