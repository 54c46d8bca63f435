//! Requests to the hub.

pub(crate) mod transfer;
pub(crate) mod listing;
pub(crate) mod hub_client;
mod http_failure;
pub(crate) mod retry;
