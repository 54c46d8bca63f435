//! Accepts TCP connections for gRPC and HTTP.
//!
//! The listener limits their number, performs TLS handshakes, and closes silent connections.

pub mod acceptor;
pub mod connection;
pub mod tls;
pub mod http2;

pub use acceptor::{Acceptor, Connections};
pub use connection::Connection;
pub use tls::{Protocols, Tls};
