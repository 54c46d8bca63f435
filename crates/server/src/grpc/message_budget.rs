//! Reserves memory for each gRPC message before it is read, by its length prefix.
//!
//! A message that is too long, or for which the memory budget has too little memory, is rejected
//! before its data arrives.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use crate::{
    grpc::frame_parser::FrameParser,
    request::memory_budget::{BudgetPermit, MemoryBudget},
};

/// A gRPC service whose request messages reserve memory in a budget.
#[derive(Clone, Debug)]
pub struct BudgetedService<S> {
    inner: S,
    budget: MemoryBudget,
}

impl<S> BudgetedService<S> {
    /// Creates the service.
    pub fn new(inner: S, budget: MemoryBudget) -> Self {
        Self { inner, budget }
    }
}

impl<S: NamedService> NamedService for BudgetedService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for BudgetedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let permit = BudgetPermit::default();
        request.extensions_mut().insert(permit.clone());
        let budget = self.budget.clone();
        self.inner.call(request.map(|body| Body::new(BudgetedBody::new(body, budget, permit))))
    }
}

/// A request body that reserves memory for each message when its length is known.
#[derive(Debug)]
struct BudgetedBody {
    body: Body,
    parser: FrameParser,
    budget: MemoryBudget,
    permit: BudgetPermit,
    /// Restarts with each chunk.
    idle_timer: Pin<Box<Sleep>>,
}

impl BudgetedBody {
    fn new(body: Body, budget: MemoryBudget, permit: BudgetPermit) -> Self {
        let idle_timer = Box::pin(tokio::time::sleep(budget.idle_timeout()));
        Self { body, parser: FrameParser::default(), budget, permit, idle_timer }
    }
}

impl HttpBody for BudgetedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, parser, budget, permit, idle_timer } = &mut *self;
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            if let Some(limit) = Instant::now().checked_add(budget.idle_timeout()) {
                idle_timer.as_mut().reset(limit);
            }
            let reserved = parser.advance(data, &mut |length| {
                permit.add(budget.acquire(length)?);
                Ok(())
            });
            if let Err(error) = reserved {
                return Poll::Ready(Some(Err(error.to_status())));
            }
        }
        if polled.is_pending() && parser.is_incomplete() && idle_timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(budget.upload_idle().to_status())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{Stream, StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

    fn budgeted(body: impl Stream<Item = Vec<u8>> + Send + 'static) -> BudgetedBody {
        let frames = body.map(|data| Ok::<_, Status>(Frame::data(Bytes::from(data))));
        let budget = MemoryBudget::new(1 << 20, 1 << 20, IDLE_TIMEOUT);
        BudgetedBody::new(Body::new(StreamBody::new(frames)), budget, BudgetPermit::default())
    }

    /// Returns a message of 100 bytes with its prefix.
    fn message() -> Vec<u8> {
        [&[0, 0, 0, 0, 100][..], &[7; 100]].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn idle_upload_is_rejected_within_a_message() {
        let begin = Instant::now();
        let half = stream::iter([message()[..50].to_vec()]).chain(stream::pending());
        let mut body = budgeted(half);
        assert!(body.frame().await.unwrap().is_ok());
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!(status.message(), "request upload idle for 20 s");
        assert_eq!(begin.elapsed(), IDLE_TIMEOUT);

        let mut silent = budgeted(stream::pending());
        assert!(silent.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn stream_may_pause_between_messages() {
        let mut body = budgeted(stream::iter([message()]).chain(stream::pending()));
        assert!(body.frame().await.unwrap().is_ok());
        assert!(tokio::time::timeout(10 * IDLE_TIMEOUT, body.frame()).await.is_err());
    }
}
