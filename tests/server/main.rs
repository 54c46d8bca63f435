//! The server over real sockets, in this process, so that a test can hold the engine in its hand.

mod company;
mod lifecycle;
mod refusals;
mod streaming;
mod support;
