"""Messages of results as the types of `results`."""

from __future__ import annotations

from .._proto import blip_pb2
from ..results import (
    Alternative,
    Answer,
    AttentionMap,
    Caption,
    Embedding,
    MatchScores,
    Model,
    Timing,
)


def answer(message: blip_pb2.Answer) -> Answer:
    return Answer(
        text=message.text,
        score=message.score,
        margin=message.margin,
        token_ids=tuple(message.token_ids),
        timing=timing(message.timing),
        alternatives=tuple(map(alternative, message.alternatives)),
        probability=message.probability if message.HasField("probability") else None,
        candidate_index=message.candidate_index if message.HasField("candidate_index") else None,
        attention=attention(message.attention) if message.HasField("attention") else None,
    )


def attention(message: blip_pb2.AttentionMap) -> AttentionMap:
    return AttentionMap(
        rows=message.rows, columns=message.columns, weights=tuple(message.weights)
    )


def alternative(message: blip_pb2.Alternative) -> Alternative:
    return Alternative(
        text=message.text,
        score=message.score,
        token_ids=tuple(message.token_ids),
        probability=message.probability if message.HasField("probability") else None,
        candidate_index=message.candidate_index if message.HasField("candidate_index") else None,
    )


def caption(message: blip_pb2.Caption) -> Caption:
    return Caption(
        text=message.text,
        score=message.score,
        margin=message.margin,
        token_ids=tuple(message.token_ids),
        timing=timing(message.timing),
        alternatives=tuple(map(alternative, message.alternatives)),
    )


def match_scores(message: blip_pb2.MatchScores) -> MatchScores:
    return MatchScores(
        probability=message.probability,
        cosine=message.cosine,
        logits=tuple(message.logits),
        timing=timing(message.timing),
    )


def embedding(message: blip_pb2.Embedding) -> Embedding:
    return Embedding(values=tuple(message.values), timing=timing(message.timing))


def timing(message: blip_pb2.Timing) -> Timing:
    return Timing(
        queue_ms=message.queue_ms,
        preprocess_ms=message.preprocess_ms,
        vision_ms=message.vision_ms,
        text_ms=message.text_ms,
        decode_ms=message.decode_ms,
        total_ms=message.total_ms,
        fetch_ms=message.fetch_ms,
        batch_images=message.batch_images,
        batch_questions=message.batch_questions,
        image_reused=message.image_reused,
        answer_shared=message.answer_shared,
        answer_reused=message.answer_reused,
    )


def model(message: blip_pb2.Model) -> Model:
    tasks = dict(zip(blip_pb2.Task.values(), blip_pb2.Task.keys()))
    return Model(
        name=message.name,
        source=message.source,
        revision=message.revision,
        task=tasks.get(message.task, str(message.task)).removeprefix("TASK_").lower(),
        device=message.device,
        dtype=message.dtype,
        image_size=message.image_size,
        max_text_tokens=message.max_text_tokens,
        max_new_tokens=message.max_new_tokens,
        embedding_size=message.embedding_size,
        parameters=message.parameters,
        conventions=message.flavour,
        candidate_lists=tuple(message.candidate_lists),
    )
