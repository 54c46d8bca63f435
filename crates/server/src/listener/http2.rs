//! HTTP/2 flow-control windows of the gRPC and HTTP listeners.

/// Bytes of one request body that a client may send before the server reads them.
///
/// The default of HTTP/2, 64 KiB, would make each image wait for several round trips.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same for all request bodies on one connection, in bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
