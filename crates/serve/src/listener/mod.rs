//! Connections, of gRPC and HTTP alike: counted, by TLS where it is on, and closed when they say nothing.

mod accept;
mod connection;
mod tls;

pub use accept::{Connections, Door};
pub use connection::Connection;
pub use tls::{Protocols, Tls, TlsError};
