# Generated from proto/blip/v1/blip.proto by generate.py.
from . import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]

class Task(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_UNSPECIFIED: _ClassVar[Task]
    TASK_QUESTION_ANSWERING: _ClassVar[Task]
    TASK_CAPTIONING: _ClassVar[Task]
    TASK_MATCHING: _ClassVar[Task]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LOW: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
TASK_UNSPECIFIED: Task
TASK_QUESTION_ANSWERING: Task
TASK_CAPTIONING: Task
TASK_MATCHING: Task

class AskRequest(_message.Message):
    __slots__ = ("inputs", "priority", "tag", "in_order", "model", "generation", "explain")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    IN_ORDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[ImageQuestions]
    priority: Priority
    tag: str
    in_order: bool
    model: str
    generation: GenerationOptions
    explain: bool
    def __init__(self, inputs: _Optional[_Iterable[_Union[ImageQuestions, _Mapping[str, object]]]] = ..., priority: _Optional[_Union[Priority, str]] = ..., tag: _Optional[str] = ..., in_order: _Optional[bool] = ..., model: _Optional[str] = ..., generation: _Optional[_Union[GenerationOptions, _Mapping[str, object]]] = ..., explain: _Optional[bool] = ...) -> None: ...

class GenerationOptions(_message.Message):
    __slots__ = ("num_beams", "max_new_tokens", "min_length", "length_penalty", "repetition_penalty", "sample", "temperature", "top_k", "top_p", "seed", "num_answers")
    NUM_BEAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUM_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    num_beams: int
    max_new_tokens: int
    min_length: int
    length_penalty: float
    repetition_penalty: float
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
    num_answers: int
    def __init__(self, num_beams: _Optional[int] = ..., max_new_tokens: _Optional[int] = ..., min_length: _Optional[int] = ..., length_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., sample: _Optional[bool] = ..., temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., num_answers: _Optional[int] = ...) -> None: ...

class ImageQuestions(_message.Message):
    __slots__ = ("image", "questions")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    image: Image
    questions: _containers.RepeatedCompositeFieldContainer[Question]
    def __init__(self, image: _Optional[_Union[Image, _Mapping[str, object]]] = ..., questions: _Optional[_Iterable[_Union[Question, _Mapping[str, object]]]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("data", "url")
    DATA_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    url: str
    def __init__(self, data: _Optional[bytes] = ..., url: _Optional[str] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("text", "candidates", "candidate_list")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_LIST_FIELD_NUMBER: _ClassVar[int]
    text: str
    candidates: _containers.RepeatedScalarFieldContainer[str]
    candidate_list: str
    def __init__(self, text: _Optional[str] = ..., candidates: _Optional[_Iterable[str]] = ..., candidate_list: _Optional[str] = ...) -> None: ...

class AskResponse(_message.Message):
    __slots__ = ("image_index", "question_index", "answer", "error", "tag")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    QUESTION_INDEX_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    question_index: int
    answer: Answer
    error: _status_pb2.Status
    tag: str
    def __init__(self, image_index: _Optional[int] = ..., question_index: _Optional[int] = ..., answer: _Optional[_Union[Answer, _Mapping[str, object]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping[str, object]]] = ..., tag: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("text", "score", "token_ids", "timing", "margin", "alternatives", "probability", "candidate_index", "attention")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    timing: Timing
    margin: float
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    probability: float
    candidate_index: int
    attention: AttentionMap
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., token_ids: _Optional[_Iterable[int]] = ..., timing: _Optional[_Union[Timing, _Mapping[str, object]]] = ..., margin: _Optional[float] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping[str, object]]]] = ..., probability: _Optional[float] = ..., candidate_index: _Optional[int] = ..., attention: _Optional[_Union[AttentionMap, _Mapping[str, object]]] = ...) -> None: ...

class AttentionMap(_message.Message):
    __slots__ = ("rows", "columns", "weights")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., weights: _Optional[_Iterable[float]] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("text", "score", "token_ids", "probability", "candidate_index")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    probability: float
    candidate_index: int
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., token_ids: _Optional[_Iterable[int]] = ..., probability: _Optional[float] = ..., candidate_index: _Optional[int] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_ms", "preprocess_ms", "vision_ms", "text_ms", "decode_ms", "total_ms", "batch_images", "batch_questions", "image_reused", "answer_shared", "fetch_ms", "answer_reused")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_MS_FIELD_NUMBER: _ClassVar[int]
    VISION_MS_FIELD_NUMBER: _ClassVar[int]
    TEXT_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_IMAGES_FIELD_NUMBER: _ClassVar[int]
    BATCH_QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REUSED_FIELD_NUMBER: _ClassVar[int]
    ANSWER_SHARED_FIELD_NUMBER: _ClassVar[int]
    FETCH_MS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_REUSED_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    preprocess_ms: float
    vision_ms: float
    text_ms: float
    decode_ms: float
    total_ms: float
    batch_images: int
    batch_questions: int
    image_reused: bool
    answer_shared: bool
    fetch_ms: float
    answer_reused: bool
    def __init__(self, queue_ms: _Optional[float] = ..., preprocess_ms: _Optional[float] = ..., vision_ms: _Optional[float] = ..., text_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., batch_images: _Optional[int] = ..., batch_questions: _Optional[int] = ..., image_reused: _Optional[bool] = ..., answer_shared: _Optional[bool] = ..., fetch_ms: _Optional[float] = ..., answer_reused: _Optional[bool] = ...) -> None: ...

class CaptionRequest(_message.Message):
    __slots__ = ("inputs", "priority", "tag", "in_order", "model", "generation", "stream_tokens")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    IN_ORDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STREAM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[ImagePrompts]
    priority: Priority
    tag: str
    in_order: bool
    model: str
    generation: GenerationOptions
    stream_tokens: bool
    def __init__(self, inputs: _Optional[_Iterable[_Union[ImagePrompts, _Mapping[str, object]]]] = ..., priority: _Optional[_Union[Priority, str]] = ..., tag: _Optional[str] = ..., in_order: _Optional[bool] = ..., model: _Optional[str] = ..., generation: _Optional[_Union[GenerationOptions, _Mapping[str, object]]] = ..., stream_tokens: _Optional[bool] = ...) -> None: ...

class ImagePrompts(_message.Message):
    __slots__ = ("image", "prompts")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    image: Image
    prompts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image: _Optional[_Union[Image, _Mapping[str, object]]] = ..., prompts: _Optional[_Iterable[str]] = ...) -> None: ...

class CaptionResponse(_message.Message):
    __slots__ = ("image_index", "prompt_index", "caption", "error", "piece", "tag")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    PROMPT_INDEX_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    prompt_index: int
    caption: Caption
    error: _status_pb2.Status
    piece: CaptionPiece
    tag: str
    def __init__(self, image_index: _Optional[int] = ..., prompt_index: _Optional[int] = ..., caption: _Optional[_Union[Caption, _Mapping[str, object]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping[str, object]]] = ..., piece: _Optional[_Union[CaptionPiece, _Mapping[str, object]]] = ..., tag: _Optional[str] = ...) -> None: ...

class CaptionPiece(_message.Message):
    __slots__ = ("text", "token_id")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_id: int
    def __init__(self, text: _Optional[str] = ..., token_id: _Optional[int] = ...) -> None: ...

class Caption(_message.Message):
    __slots__ = ("text", "score", "token_ids", "timing", "margin", "alternatives")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    timing: Timing
    margin: float
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., token_ids: _Optional[_Iterable[int]] = ..., timing: _Optional[_Union[Timing, _Mapping[str, object]]] = ..., margin: _Optional[float] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping[str, object]]]] = ...) -> None: ...

class MatchRequest(_message.Message):
    __slots__ = ("inputs", "priority", "tag", "in_order", "model")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    IN_ORDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[ImageTexts]
    priority: Priority
    tag: str
    in_order: bool
    model: str
    def __init__(self, inputs: _Optional[_Iterable[_Union[ImageTexts, _Mapping[str, object]]]] = ..., priority: _Optional[_Union[Priority, str]] = ..., tag: _Optional[str] = ..., in_order: _Optional[bool] = ..., model: _Optional[str] = ...) -> None: ...

class ImageTexts(_message.Message):
    __slots__ = ("image", "texts")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    image: Image
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image: _Optional[_Union[Image, _Mapping[str, object]]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class MatchResponse(_message.Message):
    __slots__ = ("image_index", "text_index", "match", "error", "tag")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    MATCH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    text_index: int
    match: MatchScores
    error: _status_pb2.Status
    tag: str
    def __init__(self, image_index: _Optional[int] = ..., text_index: _Optional[int] = ..., match: _Optional[_Union[MatchScores, _Mapping[str, object]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping[str, object]]] = ..., tag: _Optional[str] = ...) -> None: ...

class MatchScores(_message.Message):
    __slots__ = ("probability", "cosine", "logits", "timing")
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    probability: float
    cosine: float
    logits: _containers.RepeatedScalarFieldContainer[float]
    timing: Timing
    def __init__(self, probability: _Optional[float] = ..., cosine: _Optional[float] = ..., logits: _Optional[_Iterable[float]] = ..., timing: _Optional[_Union[Timing, _Mapping[str, object]]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("images", "texts", "priority", "tag", "in_order", "model")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    IN_ORDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    texts: _containers.RepeatedScalarFieldContainer[str]
    priority: Priority
    tag: str
    in_order: bool
    model: str
    def __init__(self, images: _Optional[_Iterable[_Union[Image, _Mapping[str, object]]]] = ..., texts: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[Priority, str]] = ..., tag: _Optional[str] = ..., in_order: _Optional[bool] = ..., model: _Optional[str] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("image_index", "text_index", "embedding", "error", "tag")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    text_index: int
    embedding: Embedding
    error: _status_pb2.Status
    tag: str
    def __init__(self, image_index: _Optional[int] = ..., text_index: _Optional[int] = ..., embedding: _Optional[_Union[Embedding, _Mapping[str, object]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping[str, object]]] = ..., tag: _Optional[str] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values", "timing")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    timing: Timing
    def __init__(self, values: _Optional[_Iterable[float]] = ..., timing: _Optional[_Union[Timing, _Mapping[str, object]]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping[str, object]]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "source", "revision", "task", "device", "dtype", "image_size", "max_text_tokens", "max_new_tokens", "embedding_size", "parameters", "flavour", "candidate_lists")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SIZE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    FLAVOUR_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_LISTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    revision: str
    task: Task
    device: str
    dtype: str
    image_size: int
    max_text_tokens: int
    max_new_tokens: int
    embedding_size: int
    parameters: int
    flavour: str
    candidate_lists: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., revision: _Optional[str] = ..., task: _Optional[_Union[Task, str]] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., image_size: _Optional[int] = ..., max_text_tokens: _Optional[int] = ..., max_new_tokens: _Optional[int] = ..., embedding_size: _Optional[int] = ..., parameters: _Optional[int] = ..., flavour: _Optional[str] = ..., candidate_lists: _Optional[_Iterable[str]] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("name", "source", "device", "dtype", "flavour")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    FLAVOUR_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    device: str
    dtype: str
    flavour: str
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., flavour: _Optional[str] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
