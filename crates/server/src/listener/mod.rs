//! Accepts TCP connections for gRPC and HTTP.
//!
//! The listener limits their number, performs TLS handshakes, and closes connections without a
//! request.

pub mod acceptor;
pub mod request_mark;
pub mod connection;
pub mod tls;
pub mod http2;

pub use acceptor::{Acceptor, Connections};
pub use connection::{Connection, ConnectionInfo};
pub use request_mark::RequestMarkLayer;
pub use tls::{Protocols, Tls};
