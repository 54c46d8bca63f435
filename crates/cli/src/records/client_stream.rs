//! An `AskStream` call that many requests share. A tag connects responses with their request.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::stream;
use proto::{AskRequest, AskResponse, ask_response};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use crate::connection::RpcClient;

/// Maximum number of requests that wait for the server to read them. Each has an image in memory.
const MAX_WAITING: usize = 4;

/// A shared call. After it has ended, the next request opens another one.
#[derive(Debug)]
pub(crate) struct ClientStream {
    client: RpcClient,
    call: tokio::sync::Mutex<Option<OpenCall>>,
    next_tag: AtomicU64,
}

#[derive(Clone, Debug)]
struct OpenCall {
    requests: mpsc::Sender<AskRequest>,
    router: Arc<ResponseRouter>,
    /// Reads responses while a clone of the call exists.
    _reader: Arc<AbortOnDropHandle<()>>,
}

/// Passes each response of a call to its request.
#[derive(Debug, Default)]
struct ResponseRouter {
    /// The receiver of each request in flight, by tag.
    receivers: Mutex<HashMap<String, mpsc::Sender<AskResponse>>>,
    end: OnceLock<Status>,
}

/// A permit to send one request.
///
/// Its holder loads the image, so that no more images are in memory than can be sent.
#[derive(Debug)]
pub(crate) struct SendPermit {
    permit: OwnedPermit<AskRequest>,
    call: OpenCall,
    tag: String,
}

impl ClientStream {
    pub(crate) fn new(client: RpcClient) -> Self {
        Self { client, call: tokio::sync::Mutex::default(), next_tag: AtomicU64::new(0) }
    }

    /// Waits until a request can be sent.
    ///
    /// # Errors
    /// The call cannot be opened, or it has ended.
    pub(crate) async fn reserve(&self) -> Result<SendPermit, Status> {
        let call = self.open_call().await?;
        let Ok(permit) = call.requests.clone().reserve_owned().await else {
            return Err(call.router.end());
        };
        let tag = self.next_tag.fetch_add(1, Ordering::Relaxed).to_string();
        Ok(SendPermit { permit, call, tag })
    }

    async fn open_call(&self) -> Result<OpenCall, Status> {
        let mut call = self.call.lock().await;
        if let Some(open) = call.as_ref().filter(|call| call.router.end.get().is_none()) {
            return Ok(open.clone());
        }
        let (requests, mut receiver) = mpsc::channel(MAX_WAITING);
        let stream = stream::poll_fn(move |context| receiver.poll_recv(context));
        let responses = self.client.stub().ask_stream(self.client.request(stream)).await?.into_inner();
        let router = Arc::new(ResponseRouter::default());
        let reader = tokio::spawn(Arc::clone(&router).route_all(responses));
        let open = OpenCall { requests, router, _reader: Arc::new(AbortOnDropHandle::new(reader)) };
        *call = Some(open.clone());
        Ok(open)
    }
}

impl SendPermit {
    /// Sends a request of `items` items, and waits for its responses.
    ///
    /// Returns the responses, and the status of the call if it ended before the last one. An error
    /// of the first item can apply to the whole request, so that no response follows it.
    pub(crate) async fn send(self, request: AskRequest, items: usize) -> (Vec<AskResponse>, Option<Status>) {
        let Self { permit, call, tag } = self;
        let mut receiver = ResponseReceiver::new(&call.router, tag.clone(), items);
        permit.send(AskRequest { tag, ..request });
        let mut responses = Vec::with_capacity(items);
        while responses.len() < items {
            let Some(response) = receiver.responses.recv().await else {
                return (responses, Some(call.router.end()));
            };
            let may_be_last = matches!(response.outcome, Some(ask_response::Outcome::Error(_)))
                && (response.image_index, response.question_index) == (0, 0);
            responses.push(response);
            if may_be_last {
                break;
            }
        }
        (responses, None)
    }
}

/// Receives the responses with one tag until it is dropped.
struct ResponseReceiver<'a> {
    router: &'a ResponseRouter,
    tag: String,
    responses: mpsc::Receiver<AskResponse>,
}

impl<'a> ResponseReceiver<'a> {
    fn new(router: &'a ResponseRouter, tag: String, items: usize) -> Self {
        let (sender, responses) = mpsc::channel(items.max(1));
        let mut receivers = router.receivers();
        // After the end of the call, a registered receiver would wait forever.
        if router.end.get().is_none() {
            receivers.insert(tag.clone(), sender);
        }
        Self { router, tag, responses }
    }
}

impl Drop for ResponseReceiver<'_> {
    fn drop(&mut self) {
        self.router.receivers().remove(&self.tag);
    }
}

impl ResponseRouter {
    /// Routes responses until the call ends.
    async fn route_all(self: Arc<Self>, mut responses: Streaming<AskResponse>) {
        let end = loop {
            match responses.message().await {
                Ok(Some(response)) => self.route(response),
                Ok(None) => break Status::unavailable("the server ended the call"),
                Err(status) => break status,
            }
        };
        let mut receivers = self.receivers();
        let _ = self.end.set(end);
        receivers.clear();
    }

    fn route(&self, response: AskResponse) {
        if let Some(sender) = self.receivers().get(&response.tag) {
            // The channel has room for one response to each item. A correct server sends no more.
            let _ = sender.try_send(response);
        }
    }

    fn receivers(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<AskResponse>>> {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> Status {
        self.end.get().cloned().unwrap_or_else(|| Status::unavailable("the call ended"))
    }
}
