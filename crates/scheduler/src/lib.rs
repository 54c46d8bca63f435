//! Requests of all clients in, batches out.
