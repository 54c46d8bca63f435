//! Accepts TCP connections for gRPC and HTTP: limits their number, performs TLS handshakes, and
//! closes silent ones.

pub mod acceptor;
pub mod connection;
pub mod tls;
pub mod http2;

pub use acceptor::{Acceptor, Connections};
pub use connection::Connection;
pub use tls::{Protocols, Tls};
