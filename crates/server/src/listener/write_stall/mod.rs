//! Ends responses that the client does not take.
//!
//! A client of HTTP/2 sets how much of a response the server may send. hyper asks a body for more
//! only when the client has room, and waits without a limit. A body can therefore not end such a
//! wait itself. The server runs each stream in a task, though, and a stream is reset when its task
//! ends. [`stream`] runs these tasks, and ends one whose client takes nothing for the time limit.
//! [`body`] reports to it what the client takes.
//!
//! A connection whose socket accepts no bytes for that time is closed by [`transport`]. This is the
//! only limit on HTTP/1.1, which has no windows.

pub mod stream; // tasks of HTTP/2 streams
pub mod body; // responses in small pieces
pub mod transport; // writes to the socket
