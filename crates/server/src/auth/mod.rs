//! Authenticates clients by API key and limits what each key may send.
//!
//! The gRPC layer [`Authenticated`] and the HTTP handlers pass the key of a request to the
//! [`Authenticator`]. It returns the [`client::Client`] that the request counts towards.
//!
//! A client presents its key as `authorization: Bearer`, as `x-api-key`, or as `secret_token` in
//! the JSON of `/v1/ask`. If no key is configured, every network of peers is a client
//! ([`Caller::peer`](crate::fair_share::Caller::peer)).

pub mod layer;
pub mod revocation;
pub mod authenticator;
pub mod keys_file;
pub mod api_key;
pub mod client;
pub mod quota;

pub use api_key::ApiKey;
pub use authenticator::{Authenticator, token_of};
pub use keys_file::{KeysFileError, read_keys};
pub use layer::Authenticated;
pub use quota::{Quota, Rate};
