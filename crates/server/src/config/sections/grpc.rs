//! Settings of the gRPC listener.

use std::net::SocketAddr;

use clap::{ArgAction, Args};

/// The gRPC listener and its HTTP/2 connections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcSettings {
    /// Address and port of the gRPC listener
    ///
    /// Port 0 selects a free port. The server prints it when it is ready.
    #[arg(
        long = "grpc-listen",
        value_name = "ADDRESS",
        env = "BLIP_SERVE__GRPC__LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,

    /// Maximum size of a request message, in bytes
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__GRPC__MAX_MESSAGE_BYTES", default_value_t = 64 << 20)]
    pub max_message_bytes: usize,

    /// Maximum memory for request messages of all clients together, in bytes
    ///
    /// A message counts while it arrives, until its images are decoded. A client that is alone may
    /// use 8/9. Several clients share it by their weights.
    #[arg(
        long,
        value_name = "BYTES",
        env = "BLIP_SERVE__GRPC__MAX_REQUEST_MEMORY_BYTES",
        default_value_t = 512 << 20
    )]
    pub max_request_memory_bytes: usize,

    /// Maximum memory for HTTP bodies of clients that have not shown a key, in bytes
    ///
    /// It applies if keys are configured, to bodies of requests without a key in a header. It is
    /// additional to the memory for request messages.
    #[arg(
        long,
        value_name = "BYTES",
        env = "BLIP_SERVE__GRPC__MAX_KEYLESS_MEMORY_BYTES",
        default_value_t = 16 << 20
    )]
    pub max_keyless_memory_bytes: usize,

    /// Maximum number of concurrent calls on one connection
    #[arg(long, value_name = "N", env = "BLIP_SERVE__GRPC__MAX_CONCURRENT_STREAMS", default_value_t = 256)]
    pub max_concurrent_streams: u32,

    /// Idle time of a connection before the server sends a ping, in seconds
    ///
    /// Pings detect dead connections, which the server closes.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__KEEPALIVE_INTERVAL_S",
        default_value_t = 60
    )]
    pub keepalive_interval_s: u64,

    /// Time limit for the response to a ping before the connection closes, in seconds
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__GRPC__KEEPALIVE_TIMEOUT_S", default_value_t = 20)]
    pub keepalive_timeout_s: u64,

    /// Maximum size of the headers of a request, in bytes
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__GRPC__MAX_HEADER_BYTES", default_value_t = 16 << 10)]
    pub max_header_bytes: u32,

    /// Maximum number of concurrent requests of one AskStream call
    ///
    /// The server reads the next request of the call when one of them ends.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__GRPC__STREAM_WINDOW", default_value_t = 32)]
    pub stream_window: usize,

    /// Serve gRPC reflection
    ///
    /// Without reflection, clients need the contract (blip.proto).
    #[arg(long, env = "BLIP_SERVE__GRPC__REFLECTION", default_value_t = true, action = ArgAction::Set)]
    pub reflection: bool,

    /// Maximum number of connections, HTTP included
    ///
    /// The server closes further connections immediately. An IPv4 address, or an IPv6 network of 64
    /// bits, may have 8/9 of the connections while it is alone. Several share them.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__GRPC__MAX_CONNECTIONS", default_value_t = 4096)]
    pub max_connections: usize,

    /// Time limit for TLS and the first bytes of a new connection, in seconds
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__GRPC__HANDSHAKE_TIMEOUT_S", default_value_t = 10)]
    pub handshake_timeout_s: u64,

    /// Time limit for the first request on a new connection, in seconds
    ///
    /// The server closes a connection without a request.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__FIRST_REQUEST_TIMEOUT_S",
        default_value_t = 30
    )]
    pub first_request_timeout_s: u64,

    /// Maximum pause during the upload of a message, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__UPLOAD_IDLE_TIMEOUT_S",
        default_value_t = 20
    )]
    pub upload_idle_timeout_s: u64,

    /// Time limit for the upload of a message, in seconds
    ///
    /// A longer deadline of the client does not extend it.
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__GRPC__UPLOAD_TIMEOUT_S", default_value_t = 600)]
    pub upload_timeout_s: u64,

    /// Time limit for a client to take 16 KiB of a response, in seconds; 0 disables it
    ///
    /// The server then resets the HTTP/2 stream. It closes a connection that takes no bytes at all.
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__GRPC__WRITE_STALL_S", default_value_t = 60)]
    pub write_stall_s: u64,

    /// Age at which the server asks a connection to close, in seconds; 0 disables it
    ///
    /// Clients then reconnect, and so spread over servers that were added.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__MAX_CONNECTION_AGE_S",
        default_value_t = 1800
    )]
    pub max_connection_age_s: u64,

    /// Time for calls on such a connection to end, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__MAX_CONNECTION_AGE_GRACE_S",
        default_value_t = 300
    )]
    pub max_connection_age_grace_s: u64,
}
