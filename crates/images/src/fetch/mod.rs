//! Images by URL, safe by default against server-side request forgery.
//!
//! A [`Fetcher`] takes `http`, `https` and `data` URLs. A URL is checked by [`UrlPolicy`]; a name is
//! resolved once, its addresses checked by [`AddressPolicy`], and the connection made to a checked
//! address, so an answer that changes between check and use gains nothing; each redirect is a new URL
//! with the same checks. No proxy, no cookies, no credentials, no decoding of compressed bodies. What
//! the bytes are is decided by the decoder, never by the server's word.

mod fetcher;
mod body_cache;
mod data_url;
mod http_client;
mod freshness;
mod host_limits;
mod resolver;
mod url_policy;
mod address_policy;
mod config;
mod error;

pub use address_policy::{AddressPolicy, REFUSED_RANGES, RefusedRange};
pub use config::{DomainPattern, FetchConfig};
pub use data_url::{decode as decode_data_url, is_data_url};
pub use error::{FetchError, FetchPhase, SetupError};
pub use fetcher::{FetchCounters, Fetcher};
pub use resolver::{Resolver, SystemResolver};
pub use url_policy::UrlPolicy;
