//! Streams a caption while it is generated, token by token.

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    error::RequestError,
    pipeline::reply::{CaptionChunk, Reply, TimedReply},
    preprocess::preparer::Preparer,
};

/// The chunks of one caption, from the tokens that an engine reports.
#[derive(Debug)]
pub struct TokenStream {
    tokens: UnboundedReceiver<(usize, i64)>,
    preparer: Preparer,
    token_ids: Vec<i64>,
    /// The text of all chunks so far.
    text: String,
}

impl TokenStream {
    /// Creates the stream of `tokens`, each with its position. The tokenizer of `preparer` decodes
    /// them.
    #[must_use]
    pub fn new(tokens: UnboundedReceiver<(usize, i64)>, preparer: Preparer) -> Self {
        Self { tokens, preparer, token_ids: Vec::new(), text: String::new() }
    }

    /// Returns the chunks until `reply` is ready, and then the reply.
    pub fn until(
        self,
        reply: impl Future<Output = Result<TimedReply, RequestError>> + Send + 'static,
    ) -> impl Stream<Item = Result<TimedReply, RequestError>> + Send + 'static {
        stream::unfold(
            (self, Some(Box::pin(reply)), None),
            |(mut chunks, mut waiting, mut last)| async move {
                loop {
                    let token = match &mut waiting {
                        Some(reply) => tokio::select! {
                            biased;
                            Some(token) = chunks.tokens.recv() => Some(token),
                            reply = reply => {
                                (waiting, last) = (None, Some(reply));
                                continue;
                            }
                        },
                        // Tokens that were reported before the reply.
                        None => chunks.tokens.try_recv().ok(),
                    };
                    let item = match token {
                        Some((index, token)) => match chunks.take(index, token) {
                            Some(chunk) => Ok((Reply::Chunk(chunk), None)),
                            None => continue,
                        },
                        None => last.take()?,
                    };
                    return Some((item, (chunks, waiting, last)));
                }
            },
        )
        .fuse()
    }

    /// Returns the chunk of a token, or `None` if a batch that was repeated reports it again.
    fn take(&mut self, index: usize, token: i64) -> Option<CaptionChunk> {
        if index != self.token_ids.len() {
            return None;
        }
        self.token_ids.push(token);
        let text = self.preparer.text(&self.token_ids);
        // A token may change how earlier tokens are joined. Then the chunk is empty.
        let added = text.strip_prefix(self.text.as_str()).unwrap_or_default().to_owned();
        if !added.is_empty() {
            self.text = text;
        }
        Some(CaptionChunk { text: added, token_id: u32::try_from(token).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use futures::future;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{config::Settings, pipeline::reply::Caption};

    #[tokio::test]
    async fn chunks_precede_the_caption_and_none_repeats() {
        let checkpoint =
            blip::Checkpoint::open(&blip::ModelFiles::Folder("../../models/demo".into())).unwrap();
        let encoded = checkpoint.tokenizer().encode("two red circles").unwrap();
        let preparer = Preparer::new(
            images::Decoder::default(),
            checkpoint.preprocessor().clone(),
            checkpoint.tokenizer().clone(),
            &Settings::default().preprocess,
        );
        let (sender, receiver) = mpsc::unbounded_channel();
        let ids: Vec<i64> = encoded[1..].to_vec();
        // An engine that repeats a batch reports tokens again.
        for token in ids[..2].iter().copied().enumerate().chain(ids.iter().copied().enumerate()) {
            sender.send(token).unwrap();
        }
        let caption = Reply::Caption(Caption { text: "two red circles".to_owned(), ..Caption::default() });
        let reply = future::ready(Ok((caption.clone(), None)));
        let seen: Vec<_> = TokenStream::new(receiver, preparer.unwrap()).until(reply).collect().await;
        let mut seen: Vec<Reply> = seen.into_iter().map(|reply| reply.unwrap().0).collect();
        assert_eq!(seen.pop(), Some(caption));
        assert_eq!(seen.len(), ids.len());
        assert_eq!(seen.iter().map(Reply::text).collect::<String>(), "two red circles");
    }
}
