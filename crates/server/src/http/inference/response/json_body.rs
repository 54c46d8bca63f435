//! The body of a JSON response, produced while the client reads it.
//!
//! A response to many items can have megabytes. The server writes the next part of it only when the
//! connection has sent the last one. A short response is sent as a whole, with its length.

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, header::CONTENT_TYPE};

use crate::{
    error::RequestError,
    http::inference::response::{item_error::FailedItem, json_writer::JsonWriter},
    pipeline::{
        item_result::{ItemResult, ItemResults},
        reply::Reply,
    },
};

/// The size at which a part of a response is sent, in bytes.
const PART_BYTES: usize = 16 << 10;

/// The layout of a response: which lists have the replies.
pub(crate) trait Layout: Send + 'static {
    /// The names of the lists.
    const LISTS: &'static [&'static str];

    /// Writes the reply to the next item, or `None` if it failed. `image` and `text` are its
    /// position in the request.
    fn add(&mut self, image: usize, text: usize, reply: Option<Reply>, json: &mut JsonWriter);
}

/// Returns a response with all `results`, which are in the order of the request.
///
/// # Errors
/// A [`RequestError`] of the whole request.
pub(crate) async fn json_response(
    results: ItemResults,
    layout: impl Layout,
) -> Result<Response, RequestError> {
    let mut parts = Parts::new(results, layout);
    let first = parts.next().await?;
    let body = if parts.is_ended {
        Body::from(first)
    } else {
        let rest = stream::unfold(parts, |mut parts| async move {
            if parts.is_ended { None } else { Some((parts.next().await, parts)) }
        });
        Body::from_stream(stream::iter([Ok(first)]).chain(rest))
    };
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// The parts of a response.
struct Parts<L> {
    results: ItemResults,
    layout: L,
    json: JsonWriter,
    errors: Vec<FailedItem>,
    is_ended: bool,
}

impl<L: Layout> Parts<L> {
    fn new(results: ItemResults, layout: L) -> Self {
        let json = JsonWriter::new(L::LISTS);
        Self { results, layout, json, errors: Vec::new(), is_ended: false }
    }

    /// Returns the next part. It waits for results until the part is long enough.
    async fn next(&mut self) -> Result<Bytes, RequestError> {
        while self.json.len() < PART_BYTES && !self.is_ended {
            match self.results.next().await.transpose()? {
                Some(result) => self.add(result),
                None => {
                    self.is_ended = true;
                    self.json.end(&self.errors);
                }
            }
        }
        Ok(self.json.take().into())
    }

    fn add(&mut self, result: ItemResult) {
        let ItemResult { image_index: image, text_index: text, reply, .. } = result;
        let reply = match reply {
            // The caption follows.
            Ok(Reply::Chunk(_)) => return,
            Ok(reply) => Some(reply),
            Err(error) => {
                self.errors.push(FailedItem::new(image, text, &error));
                None
            }
        };
        self.layout.add(image as usize, text as usize, reply, &mut self.json);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use http_body::Body as _;

    use super::*;
    use crate::{error::ErrorReason, pipeline::reply::Answer};

    /// A list of texts.
    struct Texts;

    impl Layout for Texts {
        const LISTS: &'static [&'static str] = &["texts"];

        fn add(&mut self, _: usize, _: usize, reply: Option<Reply>, json: &mut JsonWriter) {
            json.element(0, &reply.map(|reply| reply.text().to_owned()));
        }
    }

    /// Returns `count` answers of 1,000 bytes, and the number of those that were taken.
    fn answers(count: u32) -> (ItemResults, Arc<AtomicU32>) {
        let taken = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&taken);
        let results = stream::iter(0..count).map(move |text_index| {
            counter.fetch_add(1, Ordering::Relaxed);
            let reply = Ok(Reply::Answer(Answer { text: "x".repeat(1000), ..Answer::default() }));
            Ok(ItemResult { image_index: 0, text_index, ready: None, reply })
        });
        (results.boxed(), taken)
    }

    #[tokio::test]
    async fn short_response_has_its_length() {
        let response = json_response(answers(10).0, Texts).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.body().size_hint().exact(), Some(10 * 1002 + 9 + 12));
    }

    #[tokio::test]
    async fn long_response_is_produced_while_it_is_read() {
        let (results, taken) = answers(1000);
        let mut body = json_response(results, Texts).await.unwrap().into_body().into_data_stream();
        assert_eq!(taken.load(Ordering::Relaxed), 17);
        let mut text = Vec::new();
        while let Some(part) = body.next().await {
            text.extend_from_slice(&part.unwrap());
            assert!(taken.load(Ordering::Relaxed) as usize * 1003 < text.len() + 2 * PART_BYTES);
        }
        let response: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(response["texts"].as_array().unwrap().len(), 1000);
    }

    #[tokio::test]
    async fn error_of_the_request_is_returned() {
        let error = RequestError::new(ErrorReason::DeadlineExceeded);
        let results = answers(3).0.chain(stream::iter([Err(error.clone())]));
        assert_eq!(json_response(results.boxed(), Texts).await.unwrap_err(), error);
    }
}
