//! Item results as the response messages of `BlipService`.

use blip::{Architecture, AttentionMap};
use proto::{
    AskResponse, CaptionResponse, EmbedResponse, MatchResponse, ask_response, caption_response,
    embed_response, match_response,
};

use crate::{
    error::{ErrorReason, RequestError},
    models::info::ModelInfo,
    pipeline::{
        item_result::ItemResult,
        reply::{self, Reply},
        timing::Timing,
    },
};

/// The response message of a method.
pub trait Response: Sized + Send + 'static {
    /// Builds the response for `result`. `tag` is the tag and `images` the number of images of the
    /// request.
    fn new(result: ItemResult, tag: &str, images: u32) -> Self;
}

impl Response for AskResponse {
    fn new(ItemResult { image_index, text_index, reply, .. }: ItemResult, tag: &str, _: u32) -> Self {
        let outcome = match reply {
            Ok(Reply::Answer(answer)) => ask_response::Outcome::Answer(answer.into()),
            other => ask_response::Outcome::Error(error_of(other).to_rpc_status()),
        };
        Self { image_index, question_index: text_index, outcome: Some(outcome), tag: tag.to_owned() }
    }
}

impl Response for CaptionResponse {
    fn new(ItemResult { image_index, text_index, reply, .. }: ItemResult, tag: &str, _: u32) -> Self {
        let outcome = match reply {
            Ok(Reply::Caption(caption)) => caption_response::Outcome::Caption(caption.into()),
            Ok(Reply::Chunk(chunk)) => caption_response::Outcome::Piece(chunk.into()),
            other => caption_response::Outcome::Error(error_of(other).to_rpc_status()),
        };
        Self { image_index, prompt_index: text_index, outcome: Some(outcome), tag: tag.to_owned() }
    }
}

impl Response for MatchResponse {
    fn new(ItemResult { image_index, text_index, reply, .. }: ItemResult, tag: &str, _: u32) -> Self {
        let outcome = match reply {
            Ok(Reply::Match(scores)) => match_response::Outcome::Match(scores.into()),
            other => match_response::Outcome::Error(error_of(other).to_rpc_status()),
        };
        Self { image_index, text_index, outcome: Some(outcome), tag: tag.to_owned() }
    }
}

impl Response for EmbedResponse {
    fn new(ItemResult { image_index, text_index, reply, .. }: ItemResult, tag: &str, images: u32) -> Self {
        let input = if image_index < images {
            embed_response::Input::ImageIndex(image_index)
        } else {
            embed_response::Input::TextIndex(text_index)
        };
        let outcome = match reply {
            Ok(Reply::Embedding(embedding)) => embed_response::Outcome::Embedding(embedding.into()),
            other => embed_response::Outcome::Error(error_of(other).to_rpc_status()),
        };
        Self { input: Some(input), outcome: Some(outcome), tag: tag.to_owned() }
    }
}

/// Returns the error of a result without the expected reply.
fn error_of(reply: Result<Reply, RequestError>) -> RequestError {
    reply.map_or_else(
        |error| error,
        |_| RequestError::new(ErrorReason::InternalError).cause("unexpected reply of another task"),
    )
}

impl From<Timing> for proto::Timing {
    fn from(timing: Timing) -> Self {
        Self {
            queue_ms: timing.queue_ms,
            preprocess_ms: timing.preprocess_ms,
            vision_ms: timing.vision_ms,
            text_ms: timing.text_ms,
            decode_ms: timing.decode_ms,
            total_ms: timing.total_ms,
            batch_images: timing.batch_images,
            batch_questions: timing.batch_questions,
            image_reused: timing.image_reused,
            answer_shared: timing.answer_shared,
            fetch_ms: timing.fetch_ms,
            answer_reused: timing.answer_reused,
        }
    }
}

impl From<reply::Alternative> for proto::Alternative {
    fn from(other: reply::Alternative) -> Self {
        let reply::Alternative { text, score, token_ids, probability, candidate_index } = other;
        Self { text, score, token_ids, probability, candidate_index }
    }
}

impl From<reply::Answer> for proto::Answer {
    fn from(answer: reply::Answer) -> Self {
        Self {
            text: answer.text,
            score: answer.score,
            token_ids: answer.token_ids,
            timing: Some(answer.timing.into()),
            margin: answer.margin,
            alternatives: answer.alternatives.into_iter().map(Into::into).collect(),
            probability: answer.probability,
            candidate_index: answer.candidate_index,
            attention: answer.attention.map(attention),
        }
    }
}

fn attention(map: AttentionMap) -> proto::AttentionMap {
    let AttentionMap { rows, columns, weights } = map;
    proto::AttentionMap { rows, columns, weights }
}

impl From<reply::Caption> for proto::Caption {
    fn from(caption: reply::Caption) -> Self {
        Self {
            text: caption.text,
            score: caption.score,
            token_ids: caption.token_ids,
            timing: Some(caption.timing.into()),
            margin: caption.margin,
            alternatives: caption.alternatives.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<reply::CaptionChunk> for proto::CaptionPiece {
    fn from(chunk: reply::CaptionChunk) -> Self {
        Self { text: chunk.text, token_id: chunk.token_id }
    }
}

impl From<reply::MatchScores> for proto::MatchScores {
    fn from(scores: reply::MatchScores) -> Self {
        let reply::MatchScores { probability, cosine, logits, timing } = scores;
        Self { probability, cosine, logits, timing: Some(timing.into()) }
    }
}

impl From<reply::Embedding> for proto::Embedding {
    fn from(embedding: reply::Embedding) -> Self {
        Self { values: embedding.values, timing: Some(embedding.timing.into()) }
    }
}

impl From<&ModelInfo> for proto::Model {
    fn from(model: &ModelInfo) -> Self {
        let task = match model.architecture {
            Architecture::QuestionAnswering => proto::Task::QuestionAnswering,
            Architecture::Captioning => proto::Task::Captioning,
            Architecture::Retrieval => proto::Task::Matching,
        };
        Self {
            name: model.name.to_string(),
            source: model.source.clone(),
            revision: model.revision.clone().unwrap_or_default(),
            task: task.into(),
            device: model.device.clone(),
            dtype: model.dtype.clone(),
            image_size: model.image_size,
            max_text_tokens: model.max_text_tokens,
            max_new_tokens: model.max_new_tokens,
            embedding_size: model.embedding_size,
            parameters: model.parameters,
            flavour: model.conventions.to_string(),
            candidate_lists: model.candidate_lists.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedding_names_its_image_or_text() {
        let result = |image_index, text_index| ItemResult {
            image_index,
            text_index,
            ready: None,
            reply: Ok(Reply::Embedding(reply::Embedding::default())),
        };
        let input = |result| EmbedResponse::new(result, "", 2).input.unwrap();
        assert_eq!(input(result(1, 0)), embed_response::Input::ImageIndex(1));
        assert_eq!(input(result(2, 5)), embed_response::Input::TextIndex(5));
    }

    #[test]
    fn reply_of_another_task_is_an_error() {
        let reply = Ok(Reply::Embedding(reply::Embedding::default()));
        let response =
            AskResponse::new(ItemResult { image_index: 0, text_index: 0, ready: None, reply }, "t", 1);
        assert!(matches!(response.outcome, Some(ask_response::Outcome::Error(_))));
    }
}
