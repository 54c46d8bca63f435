//! The worker process: reads requests, and passes them to a handler.

use std::{io, os::fd::OwnedFd, sync::Arc};

use crate::{
    confinement::{Confinement, take_descriptors},
    message::{EXIT_OUT_OF_MEMORY, Kind, receive_message, send_message},
    shared_memory::SharedMemory,
};

/// Ends this process because an allocation failed.
///
/// The allocator of a worker process calls it, because C libraries report a failed allocation as an
/// invalid file.
pub fn exit_out_of_memory() -> ! {
    signal_hook::low_level::exit(EXIT_OUT_OF_MEMORY)
}

/// A confined worker process.
#[derive(Debug)]
pub struct WorkerProcess {
    socket: Arc<OwnedFd>,
    memory: SharedMemory,
}

/// A request to the handler.
#[derive(Debug)]
pub struct Request<'a> {
    /// What the server wants to have done.
    pub header: &'a [u8],
    /// The untrusted bytes.
    pub input: &'a [u8],
    /// Memory for the output.
    pub output: &'a mut [u8],
}

/// The response of the handler.
#[derive(Clone, Debug)]
pub struct Response {
    /// The result besides the output, at most 4,096 bytes.
    pub header: Vec<u8>,
    /// How many bytes of the output were written.
    pub output_bytes: usize,
}

/// Reserves memory of the server's budget, from the worker process.
#[derive(Clone, Debug)]
pub struct Reservations {
    socket: Arc<OwnedFd>,
}

impl WorkerProcess {
    /// Makes this process a worker process: takes the descriptors that the server passed to it, and
    /// confines it. The process must not have other threads.
    ///
    /// # Errors
    /// The process was not started by a [`Worker`](crate::Worker), or a limit cannot be set.
    pub fn start() -> io::Result<Self> {
        let (socket, memory) = take_descriptors()?;
        let memory = SharedMemory::map(memory)?;
        let start = receive_message(&socket)?.filter(|message| message.kind == Kind::Start);
        let max_memory_bytes = start.ok_or(io::ErrorKind::InvalidData)?.number;
        let confinement = Confinement::enter(max_memory_bytes)?;
        send_message(&socket, Kind::Ready, confinement.to_number(), &[])?;
        Ok(Self { socket: Arc::new(socket), memory })
    }

    /// Returns the reservations of this process. They are released at the end of each request.
    #[must_use]
    pub fn reservations(&self) -> Reservations {
        Reservations { socket: Arc::clone(&self.socket) }
    }

    /// Passes each request to `handler`, until the server closes the socket.
    ///
    /// # Errors
    /// A malformed message.
    pub fn run(mut self, mut handler: impl FnMut(Request<'_>) -> Response) -> io::Result<()> {
        while let Some(message) = receive_message(&self.socket)? {
            let input = usize::try_from(message.number).unwrap_or(usize::MAX);
            let (input, output) = self.memory.split(input).ok_or(io::ErrorKind::InvalidData)?;
            let Response { header, output_bytes } =
                handler(Request { header: &message.header, input, output });
            send_message(&self.socket, Kind::Response, output_bytes as u64, &header)?;
        }
        Ok(())
    }
}

impl Reservations {
    /// Reserves memory, and waits until it is free. Returns false if the caller has left.
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> bool {
        let asked = send_message(&self.socket, Kind::Reserve, bytes, &[]);
        let answer = asked.and_then(|()| receive_message(&self.socket));
        answer.is_ok_and(|message| {
            message.is_some_and(|message| message.kind == Kind::Reserved && message.number == 1)
        })
    }
}
