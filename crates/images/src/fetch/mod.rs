//! Fetches images by URL, protected against server-side request forgery by default.
//!
//! Requests and memory are charged to an [`Account`], whose owner decides how much it may use. A
//! [`RequestBudget`] bounds the requests of one call to one host.
//!
//! A [`Fetcher`] accepts `http`, `https` and `data` URLs. A fetch passes through these steps:
//!
//! 1. [`UrlPolicy`] checks the URL.
//! 2. A fresh body in the cache is returned. A fetch of the same URL that is in progress is joined.
//! 3. The resolver looks the name up once, and [`AddressPolicy`] checks the addresses.
//! 4. The HTTP client connects to a checked address. A DNS answer that changes later has no effect.
//! 5. Each redirect is a new URL with the same checks.
//!
//! The client uses no proxy, no cookies and no credentials. It does not decompress bodies. The
//! decoder recognizes the image format, and the server's media type is ignored.

mod fetcher;
mod body_cache;
mod data_url;
mod http_client;
mod freshness;
mod body_buffer;
mod account;
mod resolver;
mod url_policy;
mod address_policy;
mod config;
mod error;

pub use account::{Account, BodyMemory, FetchCall, MemoryExhausted, RequestBudget, RequestPermit};
pub use address_policy::{AddressPolicy, REFUSED_RANGES, RefusedRange};
pub use config::{DomainPattern, FetchConfig};
pub use data_url::{decode as decode_data_url, is_data_url};
pub use error::{FetchError, FetchPhase, SetupError};
pub use fetcher::{FetchCounters, FetchedImage, Fetcher};
pub use resolver::{Resolver, SystemResolver};
pub use url_policy::UrlPolicy;
