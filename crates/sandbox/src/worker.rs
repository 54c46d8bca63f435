//! The server's side of a worker: one process that is started again whenever it has ended.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    cancellation::Cancellation,
    confinement::Confinement,
    error::CallError,
    memory_budget::{MemoryBudget, Reservation},
    message::{Kind, Message},
    process::{Ending, Process, ProcessConfig, Wakeup},
    shared_memory::SharedMemory,
};

/// How long a process may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The pause after a process did not start. It doubles with each further failure.
const FIRST_START_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause after a process did not start.
const MAX_START_PAUSE: Duration = Duration::from_secs(10);

/// The largest CPU time that a call whose caller has left may use until the process is killed.
///
/// The limit is otherwise the CPU time that the process took to start, because the next process
/// takes as much.
const MAX_ABANDONED_CPU: Duration = Duration::from_millis(500);

/// The settings of a worker.
#[derive(Clone)]
pub struct WorkerConfig {
    /// The program of the process.
    pub process: ProcessConfig,
    /// The CPU time that a call may use.
    pub max_cpu: Duration,
    /// The size of the shared memory, in bytes: the largest input with its output.
    pub shared_bytes: usize,
    /// The memory that calls of all workers share.
    pub budget: Arc<MemoryBudget>,
    /// Learns what happens to processes.
    pub observer: Arc<dyn Fn(Event<'_>) + Send + Sync>,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// It has started and is confined.
    Started(Confinement),
    /// It has ended for this reason.
    Ended(&'a CallError),
}

/// A call of the function that the worker process runs.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is to be done, at most 4,096 bytes.
    pub header: &'a [u8],
    /// The untrusted bytes.
    pub input: &'a [u8],
    /// When the call is of no use any more.
    pub deadline: Option<Instant>,
    /// Cancels the call.
    pub cancellation: &'a Arc<Cancellation>,
}

/// The answer of the worker process. The process is not trusted, so neither is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The result besides the output.
    pub header: Vec<u8>,
    /// The output.
    pub output: Vec<u8>,
}

/// What a call ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer, or the reason why it has none.
    pub result: Result<Answer, CallError>,
    /// The CPU time that the process has used for it.
    pub cpu: Duration,
}

/// A worker: a process that answers one call at a time, and is started again when it has ended.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    memory: SharedMemory,
    process: Option<Process>,
    is_ready: bool,
    /// The CPU time that the process took to start.
    start_cpu: Duration,
    failed_starts: u32,
    /// No process is started before this time.
    paused_until: Option<Instant>,
}

impl Worker {
    /// Creates a worker and starts its process. Does not wait until the process is ready, which
    /// [`Worker::call`] and [`Worker::wait_until_ready`] do.
    ///
    /// # Errors
    /// The shared memory cannot be created, or the program cannot be started.
    pub fn new(config: WorkerConfig) -> io::Result<Self> {
        let memory = SharedMemory::new(config.shared_bytes)?;
        let process = Process::start(&config.process, &memory)?;
        Ok(Self {
            config,
            memory,
            process: Some(process),
            is_ready: false,
            start_cpu: Duration::ZERO,
            failed_starts: 0,
            paused_until: None,
        })
    }

    /// Waits until the process is ready, or does not start, or is cancelled.
    pub fn wait_until_ready(&mut self, cancellation: &Arc<Cancellation>) {
        // The next call reports an error, if it remains.
        let _ = self.make_ready(Call { header: &[], input: &[], deadline: None, cancellation });
    }

    /// Has the process answer a call. Blocks the thread until it has, or until a limit ends the
    /// call.
    pub fn call(&mut self, call: Call<'_>) -> Outcome {
        let refused = |error| Outcome { result: Err(error), cpu: Duration::ZERO };
        if call.cancellation.is_cancelled() {
            return refused(CallError::Cancelled);
        }
        if !self.memory.write_input(call.input) {
            let (bytes, limit) = (call.input.len(), self.memory.len());
            return refused(CallError::InputTooLarge { bytes, limit });
        }
        let begin = match self.send(call).or_else(|error| match error {
            // The process has ended since the last call, so it has not seen this one.
            CallError::Crashed { .. } => self.send(call),
            error => Err(error),
        }) {
            Ok(begin) => begin,
            Err(error) => return refused(error),
        };
        let Some(process) = &self.process else { return refused(malformed("not started")) };
        let answered = exchange(process, call, &self.config, [begin, self.start_cpu]);
        let cpu = process.cpu_time().saturating_sub(begin);
        let result = answered.and_then(|message| self.answer(call, message));
        match result {
            Ok(answer) => {
                self.memory.trim(call.input.len() + answer.output.len());
                Outcome { result: Ok(answer), cpu }
            }
            Err(error) => {
                let error = self.end_process(error);
                self.memory.trim(self.memory.len());
                self.start_process();
                Outcome { result: Err(error), cpu }
            }
        }
    }

    /// Sends a call to the process, and returns the CPU time that it has used before.
    fn send(&mut self, call: Call<'_>) -> Result<Duration, CallError> {
        self.make_ready(call)?;
        let Some(process) = &self.process else { return Err(malformed("not started")) };
        let begin = process.cpu_time();
        match process.send(Kind::Request, call.input.len() as u64, call.header) {
            Ok(()) => Ok(begin),
            Err(_) => {
                let error = self.end_process(CallError::Crashed { how: String::new() });
                self.start_process();
                Err(error)
            }
        }
    }

    /// Copies the answer from the shared memory.
    fn answer(&self, call: Call<'_>, message: Message) -> Result<Answer, CallError> {
        let bytes = usize::try_from(message.number).unwrap_or(usize::MAX);
        let output = self.memory.read_output(call.input.len(), bytes);
        let output = output.ok_or_else(|| malformed("too long an output"))?;
        Ok(Answer { header: message.header, output })
    }

    /// Waits until the process is ready. Starts it if none runs.
    fn make_ready(&mut self, call: Call<'_>) -> Result<(), CallError> {
        if self.process.is_none() {
            self.start_process();
        }
        let limit = Instant::now() + START_LIMIT;
        let until = call.deadline.map_or(limit, |deadline| deadline.min(limit));
        while !self.is_ready {
            let Some(process) = &self.process else {
                return Err(CallError::Unavailable { cause: "it does not start".to_owned() });
            };
            match process.wait(Some(until), call.cancellation) {
                Wakeup::Message(message) if message.kind == Kind::Ready => {
                    (self.is_ready, self.failed_starts) = (true, 0);
                    self.start_cpu = process.cpu_time();
                    (self.config.observer)(Event::Started(Confinement::from_number(message.number)));
                }
                Wakeup::Message(_) | Wakeup::Closed => return Err(self.fail_start()),
                Wakeup::Timeout if Instant::now() >= limit => return Err(self.fail_start()),
                Wakeup::Timeout | Wakeup::Cancellation => {}
            }
            if !self.is_ready {
                check(call)?;
            }
        }
        Ok(())
    }

    /// Starts a process, unless the last ones did not start.
    fn start_process(&mut self) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.is_ready = false;
        match Process::start(&self.config.process, &self.memory) {
            Ok(process) => self.process = Some(process),
            Err(error) => self.pause(&CallError::Unavailable { cause: error.to_string() }),
        }
    }

    /// Ends a process that did not start, and pauses before the next one.
    fn fail_start(&mut self) -> CallError {
        let how = match self.process.take().map(Process::end) {
            Some(Ending::Crashed(how)) => how,
            Some(Ending::OutOfMemory) | None => "out of memory".to_owned(),
        };
        let error = CallError::Unavailable { cause: format!("it did not start: {how}") };
        self.pause(&error);
        error
    }

    fn pause(&mut self, error: &CallError) {
        let pause = FIRST_START_PAUSE.saturating_mul(1 << self.failed_starts.min(10)).min(MAX_START_PAUSE);
        self.failed_starts += 1;
        self.paused_until = Some(Instant::now() + pause);
        (self.config.observer)(Event::Ended(error));
    }

    /// Ends the process because of `error`, and returns the error completed by its exit status.
    fn end_process(&mut self, error: CallError) -> CallError {
        let ending = self.process.take().map(Process::end);
        let error = match (error, ending) {
            (CallError::Crashed { .. }, Some(Ending::OutOfMemory)) => {
                CallError::MemoryLimit { limit: self.config.process.max_memory_bytes }
            }
            (CallError::Crashed { how }, Some(Ending::Crashed(status))) if how.is_empty() => {
                CallError::Crashed { how: status }
            }
            (error, _) => error,
        };
        (self.config.observer)(Event::Ended(&error));
        error
    }
}

impl fmt::Debug for WorkerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, max_cpu, shared_bytes, budget, observer: _ } = self;
        f.debug_struct("WorkerConfig")
            .field("process", process)
            .field("max_cpu", max_cpu)
            .field("shared_bytes", shared_bytes)
            .field("budget", budget)
            .finish_non_exhaustive()
    }
}

/// Waits for the response of a process to a call, within the limits of the call.
///
/// The process had used `begin` of CPU time before, `start_cpu` of it to start.
fn exchange(
    process: &Process,
    call: Call<'_>,
    config: &WorkerConfig,
    [begin, start_cpu]: [Duration; 2],
) -> Result<Message, CallError> {
    let abandoned_limit = start_cpu.min(MAX_ABANDONED_CPU);
    // A decode reserves once. A second one could wait for the first.
    let mut reservation: Option<Option<Reservation<'_>>> = None;
    loop {
        let spent = process.cpu_time().saturating_sub(begin);
        // A single thread uses at most as much CPU time as passes.
        let left = config.max_cpu.saturating_sub(spent);
        if left.is_zero() {
            return Err(CallError::CpuLimit { limit: config.max_cpu });
        }
        let left = match check(call) {
            Ok(()) => left,
            Err(error) if spent >= abandoned_limit || call.cancellation.is_stopped() => {
                return Err(error);
            }
            Err(_) => left.min(abandoned_limit - spent),
        };
        let limit = Instant::now() + left;
        let deadline = call.deadline.filter(|deadline| *deadline > Instant::now());
        let limit = deadline.map_or(limit, |deadline| deadline.min(limit));
        match process.wait(Some(limit), call.cancellation) {
            Wakeup::Timeout | Wakeup::Cancellation => {}
            Wakeup::Closed => return Err(CallError::Crashed { how: String::new() }),
            Wakeup::Message(message) if message.kind == Kind::Response => return Ok(message),
            Wakeup::Message(message) if message.kind == Kind::Reserve && reservation.is_none() => {
                let reserved = config.budget.reserve(message.number, call.cancellation);
                // The process need not end because its caller left before the memory was free.
                // If it fails, the process has ended, which the next wait reports.
                let _ = process.send(Kind::Reserved, reserved.is_some().into(), &[]);
                reservation = Some(reserved);
            }
            Wakeup::Message(_) => return Err(malformed("an unexpected message")),
        }
    }
}

/// Returns an error if nobody waits for the call any more.
fn check(call: Call<'_>) -> Result<(), CallError> {
    if call.cancellation.is_cancelled() {
        Err(CallError::Cancelled)
    } else if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        Err(CallError::Deadline)
    } else {
        Ok(())
    }
}

fn malformed(how: &str) -> CallError {
    CallError::Crashed { how: how.to_owned() }
}
