//! Accepts TCP connections and serves HTTP/1.1 and HTTP/2 on them.
//!
//! The [`acceptor`] limits their number, performs TLS handshakes, and closes connections without a
//! request. The [`connection_server`] runs a service on them, with the same limits for gRPC and
//! HTTP.

pub mod connection_server; // requests and responses on connections
pub mod acceptor; // accepts connections
pub mod write_stall; // ends responses that the client does not take
pub mod lingering_close; // closes a connection after draining its input
pub mod unread_body; // reads the short rest of request bodies
pub mod connection; // one accepted connection
pub mod memory; // connections inside this process
pub mod tls; // certificates

pub use acceptor::{Acceptor, Connections, Listener};
pub use connection::Connection;
pub use connection_server::ConnectionServer;
pub use memory::{MemoryConnector, MemoryListener, memory_listener};
pub use tls::{Protocols, Tls};
pub use unread_body::WatchedBody;
