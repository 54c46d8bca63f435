//! A caption as it is written: its tokens as pieces of text.

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    errors::Refusal,
    intake::Intake,
    proto::CaptionPiece,
    reply::{Reply, TimedReply},
};

/// The pieces of one caption, from the tokens that an engine tells.
#[derive(Debug)]
pub struct Pieces {
    written: UnboundedReceiver<(usize, i64)>,
    intake: Intake,
    token_ids: Vec<i64>,
    /// What the pieces so far come to.
    text: String,
}

impl Pieces {
    /// Pieces of what is `written`, in the words of `intake`'s model.
    #[must_use]
    pub fn new(written: UnboundedReceiver<(usize, i64)>, intake: Intake) -> Self {
        Self { written, intake, token_ids: Vec::new(), text: String::new() }
    }

    /// The pieces that are written until `reply` is there, then the reply itself, as it is.
    pub fn until(
        self,
        reply: impl Future<Output = Result<TimedReply, Refusal>> + Send + 'static,
    ) -> impl Stream<Item = Result<TimedReply, Refusal>> + Send + 'static {
        stream::unfold(
            (self, Some(Box::pin(reply)), None),
            |(mut pieces, mut waiting, mut last)| async move {
                loop {
                    let token = match &mut waiting {
                        Some(reply) => tokio::select! {
                            biased;
                            Some(token) = pieces.written.recv() => Some(token),
                            reply = reply => {
                                (waiting, last) = (None, Some(reply));
                                continue;
                            }
                        },
                        // What was told before the end.
                        None => pieces.written.try_recv().ok(),
                    };
                    let item = match token {
                        Some((index, token)) => match pieces.take(index, token) {
                            Some(piece) => Ok((Reply::Piece(piece), None)),
                            None => continue,
                        },
                        None => last.take()?,
                    };
                    return Some((item, (pieces, waiting, last)));
                }
            },
        )
        .fuse()
    }

    /// The piece of a token; none of one that was told before, by a batch that has been repeated.
    fn take(&mut self, index: usize, token: i64) -> Option<CaptionPiece> {
        if index != self.token_ids.len() {
            return None;
        }
        self.token_ids.push(token);
        let text = self.intake.text(&self.token_ids);
        // A later token may close up what was apart before it; then nothing is to be added.
        let added = text.strip_prefix(self.text.as_str()).unwrap_or_default().to_owned();
        if !added.is_empty() {
            self.text = text;
        }
        Some(CaptionPiece { text: added, token_id: u32::try_from(token).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use futures::future;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{demo::demo_model, proto::Caption, settings::Settings};

    #[tokio::test]
    async fn pieces_come_before_the_caption_and_none_twice() {
        let checkpoint =
            blip::Checkpoint::open(&blip::ModelFiles::Embedded(demo_model("demo").unwrap().1)).unwrap();
        let ids = checkpoint.tokenizer().encode("two red circles").unwrap();
        let intake = Intake::new(
            images::Decoder::default(),
            checkpoint.preprocessor().clone(),
            checkpoint.tokenizer().clone(),
            &Settings::default().preprocess,
        );
        let (told, written) = mpsc::unbounded_channel();
        let tokens: Vec<i64> = ids[1..].to_vec();
        // As an engine does that has to repeat a batch.
        for token in tokens[..2].iter().copied().enumerate().chain(tokens.iter().copied().enumerate()) {
            told.send(token).unwrap();
        }
        let caption = Reply::Caption(Caption { text: "two red circles".to_owned(), ..Caption::default() });
        let reply = future::ready(Ok((caption.clone(), None)));
        let seen: Vec<_> = Pieces::new(written, intake.unwrap()).until(reply).collect().await;
        let mut seen: Vec<Reply> = seen.into_iter().map(|reply| reply.unwrap().0).collect();
        assert_eq!(seen.pop(), Some(caption));
        assert_eq!(seen.len(), tokens.len());
        assert_eq!(seen.iter().map(Reply::text).collect::<String>(), "two red circles");
    }
}
