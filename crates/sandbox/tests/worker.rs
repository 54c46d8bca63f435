//! Worker processes within limits, and when they exceed them.
//!
//! The program is also the worker: it runs itself with the argument `worker`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a test without the standard harness, which would start threads in the worker"
)]
#![cfg(target_os = "linux")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::File,
    hint::black_box,
    io::ErrorKind,
    net::TcpListener,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use sandbox::{
    Answer, Call, CallError, Cancellation, Event, MemoryBudget, Outcome, ProcessConfig, Request,
    Reservations, Response, Worker, WorkerConfig, WorkerProcess,
};

const MAX_CPU: Duration = Duration::from_millis(300);
const MAX_MEMORY_BYTES: u64 = 64 << 20;

/// An allocator that ends a worker when an allocation fails, as the one of the server does.
struct Allocator;

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: passes every call to the allocator of the system.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller fulfils the contract.
        let pointer = unsafe { System.alloc(layout) };
        if pointer.is_null() {
            sandbox::exit_out_of_memory();
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller fulfils the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Does in a worker process what the header of the request says.
fn handle(request: Request<'_>, reservations: &Reservations) -> Response {
    let Request { header, input, output } = request;
    let succeeded = match header {
        b"copy" => {
            output.get_mut(..input.len()).unwrap().copy_from_slice(input);
            return Response { header: b"copied".to_vec(), output_bytes: input.len() };
        }
        b"compute forever" => loop {
            black_box(0);
        },
        b"allocate" => black_box(vec![1_u8; 1 << 27]).len() == 1 << 27,
        b"allocate little" => black_box(vec![1_u8; 1 << 25]).len() == 1 << 25,
        b"panic" => panic!("as requested"),
        b"claim a long output" => return Response { header: Vec::new(), output_bytes: usize::MAX },
        b"reserve" => reservations.reserve(1 << 20),
        b"open a file" => denied(File::open("/etc/passwd").err()),
        b"listen" => denied(TcpListener::bind("127.0.0.1:0").err()),
        b"start a process" => denied(Command::new("/bin/true").spawn().err()),
        b"start a thread" => denied(thread::Builder::new().spawn(|| {}).err()),
        b"read the environment" => {
            std::env::vars().all(|(name, _)| ["OF_WORKER", "LD_LIBRARY_PATH"].contains(&name.as_str()))
        }
        _ => false,
    };
    Response { header: vec![succeeded.into()], output_bytes: 0 }
}

fn denied(error: Option<std::io::Error>) -> bool {
    error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// A worker with the events of its processes.
struct Harness {
    worker: Worker,
    cancellation: Arc<Cancellation>,
    budget: Arc<MemoryBudget>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Harness {
    fn new() -> Self {
        Self::of_program("/proc/self/exe")
    }

    fn of_program(program: &str) -> Self {
        let (events, budget) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(MemoryBudget::new(1 << 20)));
        let seen = Arc::clone(&events);
        let config = WorkerConfig {
            process: ProcessConfig {
                program: program.into(),
                arguments: vec!["worker".to_owned()],
                variables: vec![("OF_WORKER".to_owned(), "1".to_owned())],
                max_memory_bytes: MAX_MEMORY_BYTES,
            },
            max_cpu: MAX_CPU,
            shared_bytes: 8 << 20,
            budget: Arc::clone(&budget),
            observer: Arc::new(move |event| {
                seen.lock().unwrap().push(match event {
                    Event::Started(confinement) => format!("started {}", confinement.is_full()),
                    Event::Ended(error) => error.label().to_owned(),
                });
            }),
        };
        let worker = Worker::new(config).unwrap();
        Self { worker, cancellation: Arc::new(Cancellation::new().unwrap()), budget, events }
    }

    fn call(&mut self, header: &str, input: &[u8]) -> Outcome {
        self.call_until(header, input, None)
    }

    fn call_until(&mut self, header: &str, input: &[u8], deadline: Option<Instant>) -> Outcome {
        let cancellation = &self.cancellation;
        self.worker.call(Call { header: header.as_bytes(), input, deadline, cancellation })
    }

    fn assert_answers(&mut self) {
        let answer = Answer { header: b"copied".to_vec(), output: b"next".to_vec() };
        assert_eq!(self.call("copy", b"next").result, Ok(answer));
    }

    fn assert_true(&mut self, header: &str) {
        assert_eq!(self.call(header, b"").result.unwrap().header, [1], "{header}");
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }
}

fn input_is_answered_up_to_the_size_of_the_memory() {
    let mut harness = Harness::new();
    harness.assert_answers();
    let large = vec![7; 4 << 20];
    assert_eq!(harness.call("copy", &large).result.unwrap().output, large);
    let too_large = harness.call("copy", &vec![7; 9 << 20]).result;
    assert_eq!(too_large, Err(CallError::InputTooLarge { bytes: 9 << 20, limit: 8 << 20 }));
    harness.assert_answers();
    assert_eq!(harness.events().len(), 1);
}

fn cpu_limit_ends_the_process_and_the_next_call_is_answered() {
    let mut harness = Harness::new();
    let Outcome { result, cpu } = harness.call("compute forever", b"");
    assert_eq!(result, Err(CallError::CpuLimit { limit: MAX_CPU }));
    assert!(cpu >= MAX_CPU && cpu < 2 * MAX_CPU, "{cpu:?}");
    harness.assert_answers();
    assert_eq!(harness.events(), ["started true", "cpu_limit", "started true"]);
}

fn memory_limit_ends_the_process_and_the_next_call_is_answered() {
    let mut harness = Harness::new();
    harness.assert_true("allocate little");
    let limit = CallError::MemoryLimit { limit: MAX_MEMORY_BYTES };
    assert_eq!(harness.call("allocate", b"").result, Err(limit));
    harness.assert_answers();
    assert_eq!(harness.events(), ["started true", "memory_limit", "started true"]);
}

fn deadline_ends_the_process() {
    let mut harness = Harness::new();
    harness.assert_answers();
    let deadline = Some(Instant::now() + Duration::from_millis(50));
    let Outcome { result, cpu } = harness.call_until("compute forever", b"", deadline);
    assert_eq!(result, Err(CallError::Deadline));
    assert!(cpu < MAX_CPU, "{cpu:?}");
    harness.assert_answers();
}

fn abandoned_call_ends_early_and_the_next_is_answered() {
    let mut harness = Harness::new();
    harness.assert_answers();
    let cancellation = Arc::clone(&harness.cancellation);
    let Outcome { result, cpu } = thread::scope(|scope| {
        scope.spawn(|| cancellation.abandon());
        harness.call("compute forever", b"")
    });
    assert_eq!(result, Err(CallError::Cancelled));
    assert!(cpu < MAX_CPU, "{cpu:?}");
    harness.cancellation.reset();
    harness.assert_answers();
    harness.cancellation.abandon();
    assert_eq!(harness.call("copy", b"").result, Err(CallError::Cancelled));
    assert_eq!(harness.events(), ["started true", "hang_up", "started true"]);
}

fn short_call_that_was_abandoned_does_not_end_the_process() {
    let mut harness = Harness::new();
    harness.assert_answers();
    let held = harness.budget.reserve(1 << 20, &harness.cancellation).unwrap();
    let cancellation = Arc::clone(&harness.cancellation);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| cancellation.abandon());
        harness.worker.call(Call {
            header: b"reserve",
            input: b"",
            deadline: None,
            cancellation: &harness.cancellation,
        })
    });
    // The caller leaves before the call begins, or while it waits for memory.
    match outcome.result {
        Ok(answer) => assert_eq!(answer.header, [0]),
        Err(error) => assert_eq!(error, CallError::Cancelled),
    }
    drop(held);
    harness.cancellation.reset();
    harness.assert_true("reserve");
    assert_eq!(harness.events(), ["started true"]);
}

fn crash_is_an_error_of_its_call_only() {
    let mut harness = Harness::new();
    for header in ["panic", "claim a long output"] {
        let error = harness.call(header, b"").result.unwrap_err();
        assert!(matches!(error, CallError::Crashed { .. }), "{header}: {error}");
        harness.assert_answers();
    }
    assert_eq!(harness.events(), ["started true", "crash", "started true", "crash", "started true"]);
}

fn process_killed_from_outside_is_replaced() {
    let mut harness = Harness::new();
    harness.assert_answers();
    let children = || -> Vec<String> {
        let path = format!("/proc/self/task/{}/children", std::process::id());
        std::fs::read_to_string(path).unwrap().split_whitespace().map(str::to_owned).collect()
    };
    let killed = children();
    assert!(Command::new("kill").arg("-KILL").args(&killed).status().unwrap().success());
    // The signal may arrive after the call.
    if let Err(error) = harness.call("copy", b"").result {
        assert_eq!(error, CallError::Crashed { how: "signal: 9 (SIGKILL)".to_owned() });
    }
    harness.assert_answers();
    assert_eq!(harness.events(), ["started true", "crash", "started true"]);
}

fn worker_reaches_neither_files_nor_network_nor_processes() {
    let mut harness = Harness::new();
    for request in
        ["open a file", "listen", "start a process", "start a thread", "read the environment", "reserve"]
    {
        harness.assert_true(request);
    }
}

fn program_that_does_not_start_is_an_error_with_pauses() {
    let mut harness = Harness::of_program("/bin/false");
    for _ in 0..100 {
        let error = harness.call("copy", b"").result.unwrap_err();
        assert!(matches!(error, CallError::Unavailable { .. }), "{error}");
    }
    let attempts = harness.events();
    assert!(attempts.len() < 20 && attempts.iter().all(|event| event == "start_failed"), "{attempts:?}");
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        let worker = WorkerProcess::start().unwrap();
        let reservations = worker.reservations();
        worker.run(|request| handle(request, &reservations)).unwrap();
        return;
    }
    let tests: [(&str, fn()); 11] = [
        ("input_is_answered_up_to_the_size_of_the_memory", input_is_answered_up_to_the_size_of_the_memory),
        (
            "cpu_limit_ends_the_process_and_the_next_call_is_answered",
            cpu_limit_ends_the_process_and_the_next_call_is_answered,
        ),
        (
            "memory_limit_ends_the_process_and_the_next_call_is_answered",
            memory_limit_ends_the_process_and_the_next_call_is_answered,
        ),
        ("deadline_ends_the_process", deadline_ends_the_process),
        (
            "abandoned_call_ends_early_and_the_next_is_answered",
            abandoned_call_ends_early_and_the_next_is_answered,
        ),
        (
            "short_call_that_was_abandoned_does_not_end_the_process",
            short_call_that_was_abandoned_does_not_end_the_process,
        ),
        ("crash_is_an_error_of_its_call_only", crash_is_an_error_of_its_call_only),
        ("process_killed_from_outside_is_replaced", process_killed_from_outside_is_replaced),
        (
            "worker_reaches_neither_files_nor_network_nor_processes",
            worker_reaches_neither_files_nor_network_nor_processes,
        ),
        (
            "program_that_does_not_start_is_an_error_with_pauses",
            program_that_does_not_start_is_an_error_with_pauses,
        ),
        ("cancelled_worker_stops_at_once", cancelled_worker_stops_at_once),
    ];
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (name, test) in tests.into_iter().filter(|(name, _)| name.contains(&filter)) {
        println!("test {name} ...");
        test();
        println!("test {name} ... ok");
    }
}

fn cancelled_worker_stops_at_once() {
    let mut harness = Harness::new();
    harness.assert_answers();
    let cancellation = Arc::clone(&harness.cancellation);
    let Outcome { result, .. } = thread::scope(|scope| {
        scope.spawn(|| cancellation.stop());
        harness.call("compute forever", b"")
    });
    assert_eq!(result, Err(CallError::Cancelled));
    harness.cancellation.reset();
    assert_eq!(harness.call("copy", b"").result, Err(CallError::Cancelled));
}
