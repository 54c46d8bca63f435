//! The library on a machine without a GPU, over as much of LibTorch's CUDA half as it calls (`host/pretended.cpp`).
//!
//! It shows that the library opens and is called as it was written, in which order LibTorch is asked for what, and what comes of
//! refusals. What LibTorch and CUDA make of that, it cannot show.
#![expect(unsafe_code, reason = "calls a library that was compiled here")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{
    ffi::{CStr, CString, c_char, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use cuda_stream::{CudaStreams, GraphError};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

#[path = "host/compile.rs"]
mod host;

/// The pretended devices, for one test at a time.
struct Pretended {
    library: &'static Library,
    streams: CudaStreams,
    _alone: MutexGuard<'static, ()>,
}

impl Pretended {
    fn open() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let library = LIBRARY.get_or_init(compile);
        let pretended = Self { library, streams: CudaStreams::open().unwrap(), _alone: alone };
        pretended.refuse("");
        pretended.diary();
        pretended
    }

    fn call<F: Copy>(&self, name: &str) -> F {
        // SAFETY: the callers below know the signatures of pretended.cpp.
        *unsafe { self.library.get::<F>(name.as_bytes()) }.unwrap()
    }

    fn tell(&self, name: &str, text: &str) {
        let text = CString::new(text).unwrap();
        // SAFETY: takes a string, which outlives the call.
        unsafe { self.call::<unsafe extern "C" fn(*const c_char)>(name)(text.as_ptr()) }
    }

    fn note(&self, line: &str) {
        self.tell("pretended_note", line);
    }

    fn refuse(&self, what: &str) {
        self.tell("pretended_refuse", what);
    }

    /// What the devices were asked for since the last time.
    fn diary(&self) -> Vec<String> {
        // SAFETY: returns a string that lives until the next call.
        let diary = unsafe {
            CStr::from_ptr(self.call::<unsafe extern "C" fn() -> *const c_char>("pretended_diary")())
        };
        diary.to_str().unwrap().lines().map(str::to_owned).collect()
    }

    fn wait(&self, milliseconds: f64) {
        // SAFETY: takes a number.
        unsafe { self.call::<unsafe extern "C" fn(f64)>("pretended_wait")(milliseconds) }
    }

    fn number(&self, name: &str) -> c_int {
        // SAFETY: returns a number.
        unsafe { self.call::<unsafe extern "C" fn() -> c_int>(name)() }
    }

    fn current_stream(&self, device: usize) -> usize {
        self.streams.current_stream(device).unwrap().addr()
    }
}

impl Drop for Pretended {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.number("pretended_living"), 0, "all that was made was freed");
        }
    }
}

/// Compiles the pretended half and opens it as the real one is opened.
fn compile() -> Library {
    // Linked to LibTorch, so that its symbols are there.
    assert_eq!(tch::Tensor::from(1).int64_value(&[]), 1);
    let libtorch = option_env!("LIBTORCH_LIB").unwrap_or_default();
    let headers = ["-isystem".to_owned(), format!("{libtorch}/../include")];
    let folder = tempfile::tempdir().unwrap();
    let library = host::compile("pretended.cpp", &headers, "libpretended_cuda.so", folder.path());
    // SAFETY: made of our own source just now; opening it registers devices that do nothing.
    unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }.unwrap()
}

#[test]
#[cfg_attr(not(with_library), ignore = "this LibTorch came without the headers for CUDA")]
fn events_tell_how_long_the_device_took() {
    let pretended = Pretended::open();
    let first = pretended.streams.record_event(1).unwrap();
    pretended.wait(37.5);
    // The device is not there yet: it is waited for.
    let second = pretended.streams.record_event(1).unwrap();
    assert_eq!(second.since(&first), Ok(Duration::from_micros(37_500)));
    assert!(first.since(&second).is_err(), "time does not run backwards");
    assert_eq!(pretended.diary(), ["record on 1:0", "record on 1:0"]);
    pretended.refuse("record");
    let refused = pretended.streams.record_event(0).unwrap_err();
    assert!(refused.contains("pretended refusal of record"), "{refused}");
}

#[test]
#[cfg_attr(not(with_library), ignore = "this LibTorch came without the headers for CUDA")]
fn work_on_a_side_stream_leaves_the_current_one_as_it_was() {
    let pretended = Pretended::open();
    let side = pretended.streams.side_stream(1).unwrap();
    let within = side.run(|| (pretended.current_stream(1), pretended.number("pretended_device"))).unwrap();
    assert!(within.0 != 0 && within.1 == 1, "{within:?}");
    assert_eq!((pretended.current_stream(1), pretended.number("pretended_device")), (0, 0));
    let panicked = catch_unwind(AssertUnwindSafe(|| side.run(|| panic!("work that fails"))));
    assert!(panicked.is_err());
    assert_eq!((pretended.current_stream(1), pretended.number("pretended_device")), (0, 0));
    pretended.refuse("current");
    assert!(side.run(|| ()).unwrap_err().contains("pretended refusal of current"));
    pretended.refuse("stream");
    assert!(pretended.streams.side_stream(1).unwrap_err().contains("pretended refusal of stream"));
}

#[test]
#[cfg_attr(not(with_library), ignore = "this LibTorch came without the headers for CUDA")]
fn a_graph_is_captured_on_a_stream_of_its_own_and_launched_on_the_current_one() {
    let pretended = Pretended::open();
    let mut runs = 0;
    let captured = pretended.streams.capture(1, || {
        runs += 1;
        pretended.note("work");
        Ok::<_, String>(runs)
    });
    let (graph, result) = captured.unwrap();
    assert_eq!(result, 2, "what is kept is what was captured");
    let diary = pretended.diary();
    let side = diary[2].replace("current ", "");
    let expected = [
        "new stream of 1".to_owned(),
        "synchronize 1:0".to_owned(),
        format!("current {side}"),
        "work".to_owned(),
        format!("synchronize {side}"),
        format!("begin on {side}"),
        "work".to_owned(),
        "end".to_owned(),
        "current 1:0".to_owned(),
    ];
    assert_eq!(diary, expected);
    graph.launch().unwrap();
    assert_eq!(pretended.diary(), ["replay on 0:0"]);
    pretended.refuse("replay");
    assert!(graph.launch().unwrap_err().contains("pretended refusal of replay"));
}

#[test]
#[cfg_attr(not(with_library), ignore = "this LibTorch came without the headers for CUDA")]
fn what_cannot_be_captured_leaves_nothing_behind() {
    let pretended = Pretended::open();
    for failing in 1..=2 {
        let mut runs = 0;
        let captured = pretended.streams.capture(0, || {
            runs += 1;
            if runs == failing { Err("work that fails") } else { Ok(()) }
        });
        assert!(matches!(captured, Err(GraphError::Work("work that fails"))));
        let ended = pretended.diary().contains(&"end".to_owned());
        assert_eq!(ended, failing == 2, "a capture that began ends");
        assert_eq!(pretended.current_stream(0), 0);
    }
    for step in ["stream", "synchronize", "begin", "end"] {
        pretended.refuse(step);
        let captured = pretended.streams.capture(0, || Ok::<_, String>(()));
        let error = captured.unwrap_err().to_string();
        assert!(error.contains(&format!("pretended refusal of {step}")), "{step}: {error}");
        pretended.refuse("");
        assert_eq!(pretended.current_stream(0), 0, "{step}");
    }
}
