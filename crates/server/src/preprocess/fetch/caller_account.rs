//! The shares of a caller in what fetches use.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use images::fetch::{Account, BodyMemory, RequestPermit};

use crate::{
    fair_share::Caller,
    preprocess::fetch::{body_budget::BodyBudget, request_slots::RequestSlots},
};

/// What the fetches of all callers share.
#[derive(Clone, Debug)]
pub(super) struct FetchLimits {
    pub(super) slots: Arc<RequestSlots>,
    pub(super) budget: Arc<BodyBudget>,
}

/// A caller with its shares.
#[derive(Debug)]
pub(super) struct CallerAccount {
    pub(super) limits: FetchLimits,
    pub(super) caller: Caller,
}

impl Account for CallerAccount {
    fn id(&self) -> u64 {
        self.caller.id.0
    }

    fn request(&self, host: &str) -> BoxFuture<'static, RequestPermit> {
        let slot = Arc::clone(&self.limits.slots).acquire(self.caller, host.to_owned());
        async move { Box::new(slot.await) as RequestPermit }.boxed()
    }

    fn body(&self, bytes: usize) -> BoxFuture<'static, Box<dyn BodyMemory>> {
        let file = Arc::clone(&self.limits.budget).begin(self.caller, bytes);
        async move { Box::new(file.await) as Box<dyn BodyMemory> }.boxed()
    }
}
