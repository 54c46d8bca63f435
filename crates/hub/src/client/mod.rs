//! Requests to the hub: lists the files of a repository and downloads them.

pub(crate) mod transfer;
pub(crate) mod listing;
pub(crate) mod hub_client;
mod http_failure;
pub(crate) mod retry;
