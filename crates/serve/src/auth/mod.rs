//! Who may call: API keys, what each of them may do, and the check ahead of every request.
//!
//! A key is presented as `authorization: Bearer`, as `x-api-key`, or as the `secret_token` of the model card's JSON.
//! Where no key is configured everyone may call, each connection as a client of its own.

mod api_key;
mod authenticator;
mod keys_file;
mod layer;
mod quota;

pub use api_key::{ApiKey, KeyParseError, Secret};
pub use authenticator::{Authenticator, token_of};
pub use keys_file::{KeysFileError, parse_keys, read_keys};
pub use layer::Authenticated;
pub use quota::{Quota, Rate};
