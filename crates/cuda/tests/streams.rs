//! Streams, events and graphs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tch::TchError;

use crate::fake_driver::FakeDriver;

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn event_since_returns_device_time() {
    let fake = FakeDriver::open();
    let first = fake.streams.record_event(1).unwrap();
    fake.advance_clock(37.5);
    // The fake device has not reached this event, so `since` must wait for it.
    let second = fake.streams.record_event(1).unwrap();
    assert_eq!(second.since(&first).unwrap(), Duration::from_micros(37_500));
    assert!(first.since(&second).is_err(), "a negative time is an error");
    assert_eq!(fake.take_log(), ["record on 1:0", "record on 1:0"]);
    fake.fail("record");
    let error = fake.streams.record_event(0).unwrap_err().to_string();
    assert!(error.contains("fake failure of record"), "{error}");
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn copy_stream_run_restores_current_stream() {
    let fake = FakeDriver::open();
    let current = || (fake.current_stream(1), fake.current_device());
    let copies = fake.streams.copy_stream(1).unwrap();
    // LibTorch gives streams of a pool again. Those of captures are in another one.
    assert_eq!(fake.take_log(), ["new stream of 1"]);
    let within = copies.run(current).unwrap();
    assert!(within.0 != 0 && within.1 == 1, "{within:?}");
    assert_eq!(current(), (0, 0));
    let panicked = catch_unwind(AssertUnwindSafe(|| copies.run(|| panic!("work that fails"))));
    assert!(panicked.is_err());
    assert_eq!(current(), (0, 0));
    fake.fail("current");
    assert!(copies.run(|| ()).unwrap_err().to_string().contains("fake failure of current"));
    fake.fail("stream");
    let error = fake.streams.copy_stream(1).unwrap_err().to_string();
    assert!(error.contains("fake failure of stream"), "{error}");
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn engine_stream_stays_current() {
    let fake = FakeDriver::open();
    fake.streams.use_engine_stream(1).unwrap();
    let first = fake.current_stream(1);
    assert_eq!(fake.take_log(), ["new stream of 1".to_owned(), format!("current 1:{first}")]);
    assert_eq!((fake.current_stream(0), fake.current_device()), (0, 0));
    let copies = fake.streams.copy_stream(1).unwrap();
    copies.run(|| assert_ne!(fake.current_stream(1), first)).unwrap();
    assert_eq!(fake.current_stream(1), first);
    fake.streams.use_engine_stream(1).unwrap();
    assert_eq!(fake.current_stream(1), first, "a thread keeps its stream");
    fake.fail("stream");
    let error = fake.streams.use_engine_stream(0).unwrap_err().to_string();
    assert!(error.contains("fake failure of stream"), "{error}");
    assert_eq!(fake.current_device(), 0);
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn graph_captures_on_pool_stream_and_launches_on_current() {
    let fake = FakeDriver::open();
    let mut runs = 0;
    let captures = fake.streams.capture_stream(1).unwrap();
    assert_eq!(fake.take_log(), ["new high-priority stream of 1"]);
    let captured = captures.capture(|| {
        runs += 1;
        fake.log("work");
        Ok(runs)
    });
    let (graph, result) = captured.unwrap();
    assert_eq!(result, 2, "the result is that of the captured run");
    let log = fake.take_log();
    let stream = log[1].replace("current ", "");
    let expected = [
        "synchronize 1:0".to_owned(),
        format!("current {stream}"),
        "work".to_owned(),
        format!("synchronize {stream}"),
        format!("begin on {stream}"),
        "work".to_owned(),
        "end".to_owned(),
        "instantiate".to_owned(),
        "current 1:0".to_owned(),
    ];
    assert_eq!(log, expected);
    graph.launch().unwrap();
    assert_eq!(fake.take_log(), ["replay on 0:0"]);
    fake.fail("replay");
    assert!(graph.launch().unwrap_err().to_string().contains("fake failure of replay"));
}

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn failed_capture_restores_current_stream() {
    let fake = FakeDriver::open();
    let captures = fake.streams.capture_stream(0).unwrap();
    for failing in 1..=2 {
        let mut runs = 0;
        let captured = captures.capture(|| {
            runs += 1;
            if runs == failing { Err(TchError::Torch("work that fails".to_owned())) } else { Ok(()) }
        });
        assert!(captured.unwrap_err().to_string().ends_with("work that fails"));
        let ended = fake.take_log().contains(&"end".to_owned());
        assert_eq!(ended, failing == 2, "a capture that began ends");
        assert_eq!(fake.current_stream(0), 0);
    }
    fake.fail("stream");
    let error = fake.streams.capture_stream(0).unwrap_err().to_string();
    assert!(error.contains("fake failure of stream"), "{error}");
    for call in ["synchronize", "begin", "end", "instantiate"] {
        fake.fail(call);
        let error = captures.capture(|| Ok(())).unwrap_err().to_string();
        assert!(error.contains(&format!("fake failure of {call}")), "{call}: {error}");
        fake.fail("");
        assert_eq!(fake.current_stream(0), 0, "{call}");
    }
}
