//! A running worker process, as the server sees it.

use std::{
    env, io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};

use crate::{
    cancellation::Cancellation,
    cpu_clock::CpuClock,
    message::{EXIT_OUT_OF_MEMORY, Kind, Message, receive_message, send_message},
    shared_memory::SharedMemory,
};

/// Variables that the dynamic loader needs. A worker process has no others of the server.
const INHERITED_VARIABLES: [&str; 1] = ["LD_LIBRARY_PATH"];

/// The program of a worker process, and its memory.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The program. It must call [`WorkerProcess::start`](crate::WorkerProcess::start).
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment. It has only few variables of the server.
    pub variables: Vec<(String, String)>,
    /// The memory that the process may use besides what it has at the start, in bytes.
    pub max_memory_bytes: u64,
}

/// A running worker process. It is killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: KilledOnDrop,
    socket: OwnedFd,
    clock: CpuClock,
}

#[derive(Debug)]
struct KilledOnDrop(Child);

/// What a wait for a process ended with.
#[derive(Debug)]
pub(crate) enum Wakeup {
    /// The process has sent a message.
    Message(Message),
    /// The caller may have left.
    Cancellation,
    /// The time is over.
    Timeout,
    /// The process has ended, or has sent a malformed message.
    Closed,
}

/// How a process has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    OutOfMemory,
    Crashed(String),
}

impl Process {
    /// Starts a process. It is ready when it has sent [`Kind::Ready`].
    pub(crate) fn start(config: &ProcessConfig, memory: &SharedMemory) -> io::Result<Self> {
        let (socket, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let inherited =
            INHERITED_VARIABLES.iter().filter_map(|variable| Some((*variable, env::var_os(variable)?)));
        let child = Command::new(&config.program)
            .arg0("blip-serve")
            .args(&config.arguments)
            // A stop signal to the server's group does not end the calls in flight.
            .process_group(0)
            .env_clear()
            .envs(inherited)
            .envs(config.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(other))
            .stdout(Stdio::from(memory.descriptor()?))
            .stderr(Stdio::null())
            .spawn()?;
        let child = KilledOnDrop(child);
        let process = Self { socket, clock: CpuClock::of(child.0.id())?, child };
        match process.send(Kind::Start, config.max_memory_bytes, &[]) {
            // It has ended already. The next wait reports it, as if it had ended a moment later.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(process),
            sent => sent.map(|()| process),
        }
    }

    /// Returns the CPU time that the process has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.clock.read()
    }

    pub(crate) fn send(&self, kind: Kind, number: u64, header: &[u8]) -> io::Result<()> {
        send_message(&self.socket, kind, number, header)
    }

    /// Waits for a message until `limit`, or until the cancellation wakes the thread.
    pub(crate) fn wait(&self, limit: Option<Instant>, cancellation: &Cancellation) -> Wakeup {
        let timeout = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(cancellation, PollFlags::IN)];
        // After an interrupted wait, the caller checks its limits and waits again.
        if matches!(poll(&mut events, timeout.as_ref()), Ok(0) | Err(_)) {
            return Wakeup::Timeout;
        }
        let [message, _] = events.map(|event| !event.revents().is_empty());
        if !message {
            cancellation.clear();
            return Wakeup::Cancellation;
        }
        match receive_message(&self.socket) {
            Ok(Some(message)) => Wakeup::Message(message),
            Ok(None) | Err(_) => Wakeup::Closed,
        }
    }

    /// Kills the process if it still runs, and returns how it ended.
    pub(crate) fn end(mut self) -> Ending {
        // A process closes its socket after its exit status is set, so the kill does not replace
        // the status.
        let _ = self.child.0.kill();
        match self.child.0.wait() {
            Ok(status) if status.code() == Some(EXIT_OUT_OF_MEMORY) => Ending::OutOfMemory,
            Ok(status) => Ending::Crashed(status.to_string()),
            Err(error) => Ending::Crashed(error.to_string()),
        }
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
