//! Outcomes as the responses of `BlipService`'s methods.

use crate::{
    errors::{Reason, Refusal},
    frontend::Outcome,
    proto::{
        AskResponse, CaptionResponse, EmbedResponse, MatchResponse, ask_response, caption_response,
        embed_response, match_response,
    },
    reply::Reply,
};

/// A method's response.
pub trait Response: Sized + Send + 'static {
    /// The response that tells `outcome`, with the tag of its request. `images` are those of the request.
    fn new(outcome: Outcome, tag: &str, images: u32) -> Self;
}

impl Response for AskResponse {
    fn new(Outcome { image_index, question_index, reply, .. }: Outcome, tag: &str, _: u32) -> Self {
        let outcome = match reply {
            Ok(Reply::Answer(answer)) => ask_response::Outcome::Answer(answer),
            other => ask_response::Outcome::Error(refusal_of(other).to_rpc_status()),
        };
        Self { image_index, question_index, outcome: Some(outcome), tag: tag.to_owned() }
    }
}

impl Response for CaptionResponse {
    fn new(Outcome { image_index, question_index, reply, .. }: Outcome, tag: &str, _: u32) -> Self {
        let outcome = match reply {
            Ok(Reply::Caption(caption)) => caption_response::Outcome::Caption(caption),
            Ok(Reply::Piece(piece)) => caption_response::Outcome::Piece(piece),
            other => caption_response::Outcome::Error(refusal_of(other).to_rpc_status()),
        };
        Self { image_index, prompt_index: question_index, outcome: Some(outcome), tag: tag.to_owned() }
    }
}

impl Response for MatchResponse {
    fn new(Outcome { image_index, question_index, reply, .. }: Outcome, tag: &str, _: u32) -> Self {
        let outcome = match reply {
            Ok(Reply::Match(scores)) => match_response::Outcome::Match(scores),
            other => match_response::Outcome::Error(refusal_of(other).to_rpc_status()),
        };
        Self { image_index, text_index: question_index, outcome: Some(outcome), tag: tag.to_owned() }
    }
}

impl Response for EmbedResponse {
    fn new(Outcome { image_index, question_index, reply, .. }: Outcome, tag: &str, images: u32) -> Self {
        let input = if image_index < images {
            embed_response::Input::ImageIndex(image_index)
        } else {
            embed_response::Input::TextIndex(question_index)
        };
        let outcome = match reply {
            Ok(Reply::Embedding(embedding)) => embed_response::Outcome::Embedding(embedding),
            other => embed_response::Outcome::Error(refusal_of(other).to_rpc_status()),
        };
        Self { input: Some(input), outcome: Some(outcome), tag: tag.to_owned() }
    }
}

/// Why there is not the reply that was wanted.
fn refusal_of(reply: Result<Reply, Refusal>) -> Refusal {
    reply.map_or_else(
        |refusal| refusal,
        |_| Refusal::new(Reason::InternalError).cause("the reply is of another kind"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Embedding;

    #[test]
    fn vectors_say_whether_they_are_of_an_image_or_of_a_text() {
        let outcome = |image_index, question_index| Outcome {
            image_index,
            question_index,
            ready: None,
            reply: Ok(Reply::Embedding(Embedding::default())),
        };
        let input = |outcome| EmbedResponse::new(outcome, "", 2).input.unwrap();
        assert_eq!(input(outcome(1, 0)), embed_response::Input::ImageIndex(1));
        assert_eq!(input(outcome(2, 5)), embed_response::Input::TextIndex(5));
    }

    #[test]
    fn a_reply_of_another_kind_is_an_error_not_a_silence() {
        let reply = Ok(Reply::Embedding(Embedding::default()));
        let response =
            AskResponse::new(Outcome { image_index: 0, question_index: 0, ready: None, reply }, "t", 1);
        assert!(matches!(response.outcome, Some(ask_response::Outcome::Error(_))));
    }
}
