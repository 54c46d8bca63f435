//! The result of one item of a request.

use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::{error::RequestError, pipeline::reply::Reply};

/// The result of one item, or a chunk of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemResult {
    /// The position of the image in the request, from 0.
    pub image_index: u32,
    /// The position of the text among those of the image, from 0.
    pub text_index: u32,
    /// The time at which the engine or the cache returned the result. `None` for chunks and errors.
    pub ready: Option<Instant>,
    /// The reply, or why there is none.
    pub reply: Result<Reply, RequestError>,
}

impl ItemResult {
    /// Returns whether the item has no further results.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.reply.as_ref().map_or(true, Reply::is_last)
    }
}

/// The results of all items. If the call fails early, the last element is its error.
pub type ItemResults = BoxStream<'static, Result<ItemResult, RequestError>>;
