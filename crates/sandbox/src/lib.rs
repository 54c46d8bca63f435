//! Runs a function on untrusted bytes in a worker process, within limits.
//!
//! A thread of the server owns a [`Worker`]. A [`Call`] passes through this crate as follows:
//!
//! 1. [`Worker::call`] copies the input to memory that both processes map, and sends a message.
//! 2. [`WorkerProcess::run`], in the other process, passes the bytes to the handler. The handler
//!    writes its output to the same memory.
//! 3. The worker reserves large memory in the [`MemoryBudget`] of the server through its
//!    [`Reservations`].
//! 4. The server kills a process that exceeds its CPU time or memory, or whose caller has left. A
//!    new process starts at once.
//!
//! A worker process is confined before it reads the first input. As far as the kernel supports it,
//! it can neither open files, nor use the network, nor start processes.
//! `docs/decisions/decode-isolation.md` has the reasons.
//!
//! The crate is empty on other systems than Linux.
//!
//! Modules are listed from entry point to foundation. Each uses only modules below it.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_types, reason = "limits on another process are in real time")]

mod worker;
mod worker_process;
mod process;
mod memory_budget;
mod confinement;
mod message;
mod shared_memory;
mod cpu_clock;
mod cancellation;
mod error;

pub use cancellation::Cancellation;
pub use confinement::Confinement;
pub use error::CallError;
pub use memory_budget::{MemoryBudget, Reservation};
pub use process::ProcessConfig;
pub use worker::{Answer, Call, Event, Outcome, Worker, WorkerConfig};
pub use worker_process::{Request, Reservations, Response, WorkerProcess, exit_out_of_memory};
