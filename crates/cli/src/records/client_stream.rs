//! One `AskStream` call that many ask by: each request waits for its own responses, by its tag.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::stream;
use proto::{AskRequest, AskResponse, ask_response, blip_service_client::BlipServiceClient};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Extensions, Request, Status, Streaming, transport::Channel};

/// Requests that are ready while the server reads none: so many images are in memory.
const AHEAD: usize = 4;

/// The call, opened anew by the next request when it has ended.
#[derive(Debug)]
pub(crate) struct Conversation {
    client: BlipServiceClient<Channel>,
    /// Signed, with its time limit, and otherwise empty.
    template: Request<()>,
    call: tokio::sync::Mutex<Option<Call>>,
    tags: AtomicU64,
}

#[derive(Clone, Debug)]
struct Call {
    requests: mpsc::Sender<AskRequest>,
    replies: Arc<Replies>,
    /// Reads while anybody holds the call.
    _reader: Arc<AbortOnDropHandle<()>>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Replies {
    waiting: Mutex<HashMap<String, mpsc::Sender<AskResponse>>>,
    ended: OnceLock<Status>,
}

/// What a request was answered, and the status of the call if it ended before all was.
pub(crate) type Answered = (Vec<AskResponse>, Option<Status>);

/// A place in the call for one request. Whoever has one reads the image, so that no more are read than can be sent.
#[derive(Debug)]
pub(crate) struct ReadOrder {
    permit: OwnedPermit<AskRequest>,
    call: Call,
    tag: String,
}

impl Conversation {
    pub(crate) fn new(channel: Channel, template: Request<()>) -> Self {
        let client = BlipServiceClient::new(channel);
        Self { client, template, call: tokio::sync::Mutex::default(), tags: AtomicU64::new(0) }
    }

    /// Waits until the server takes a request.
    ///
    /// # Errors
    /// The call cannot be opened, or ended meanwhile.
    pub(crate) async fn turn(&self) -> Result<ReadOrder, Status> {
        let call = self.call().await?;
        let Ok(permit) = call.requests.clone().reserve_owned().await else {
            return Err(call.replies.end());
        };
        let tag = self.tags.fetch_add(1, Ordering::Relaxed).to_string();
        Ok(ReadOrder { permit, call, tag })
    }

    async fn call(&self) -> Result<Call, Status> {
        let mut call = self.call.lock().await;
        if let Some(open) = call.as_ref().filter(|call| call.replies.ended.get().is_none()) {
            return Ok(open.clone());
        }
        let (requests, mut receiver) = mpsc::channel(AHEAD);
        let stream = stream::poll_fn(move |context| receiver.poll_recv(context));
        let request = Request::from_parts(self.template.metadata().clone(), Extensions::default(), stream);
        let responses = self.client.clone().ask_stream(request).await?.into_inner();
        let replies = Arc::new(Replies::default());
        let reader = tokio::spawn(Arc::clone(&replies).read(responses));
        let open = Call { requests, replies, _reader: Arc::new(AbortOnDropHandle::new(reader)) };
        *call = Some(open.clone());
        Ok(open)
    }
}

impl ReadOrder {
    /// Asks, and waits for `pairs` responses, or one about the first pair that may be about them all: a request that is
    /// refused as a whole is answered so.
    pub(crate) async fn ask(self, request: AskRequest, pairs: usize) -> Answered {
        let Self { permit, call, tag } = self;
        let mut waiter = Waiter::new(&call.replies, tag.clone(), pairs);
        permit.send(AskRequest { tag, ..request });
        let mut responses = Vec::with_capacity(pairs);
        while responses.len() < pairs {
            let Some(response) = waiter.responses.recv().await else {
                return (responses, Some(call.replies.end()));
            };
            let ambiguous = matches!(response.outcome, Some(ask_response::Outcome::Error(_)))
                && (response.image_index, response.question_index) == (0, 0);
            responses.push(response);
            if ambiguous {
                break;
            }
        }
        (responses, None)
    }
}

/// Waits for the responses to one tag, and no longer than it lives.
struct Waiter<'a> {
    replies: &'a Replies,
    tag: String,
    responses: mpsc::Receiver<AskResponse>,
}

impl<'a> Waiter<'a> {
    fn new(replies: &'a Replies, tag: String, pairs: usize) -> Self {
        let (sender, responses) = mpsc::channel(pairs.max(1));
        let mut waiting = replies.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Behind the end nobody clears the list again.
        if replies.ended.get().is_none() {
            waiting.insert(tag.clone(), sender);
        }
        Self { replies, tag, responses }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.replies.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tag);
    }
}

impl Replies {
    /// Hands responses to those who wait for them, until the call ends.
    async fn read(self: Arc<Self>, mut responses: Streaming<AskResponse>) {
        let end = loop {
            match responses.message().await {
                Ok(Some(response)) => self.hand_out(response),
                Ok(None) => break Status::unavailable("the server ended the call"),
                Err(status) => break status,
            }
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.ended.set(end);
        waiting.clear();
    }

    fn hand_out(&self, response: AskResponse) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.get(&response.tag) {
            // There is room for one response to each pair; more are a server's mistake.
            let _ = sender.try_send(response);
        }
    }

    fn end(&self) -> Status {
        self.ended.get().cloned().unwrap_or_else(|| Status::unavailable("the call ended"))
    }
}
