use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{future, stream};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::*;
use crate::{format::Format, output::ExistingFile};

const CONFIG: BulkConfig = BulkConfig {
    max_in_flight: 8,
    max_group_records: 4,
    group_by: "image",
    result_fields: &["answer", "score"],
    retry_timeout: Duration::ZERO,
};

/// Answers each record with its `id`. Fails each tenth record.
#[derive(Default)]
struct EchoTask {
    /// If set, the group of record 0 ends after seven other groups.
    first_group_delay: Option<Semaphore>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
}

impl Task for EchoTask {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        if let Some(semaphore) = &self.first_group_delay {
            if records.iter().any(|record| record["id"] == json!(0)) {
                drop(semaphore.acquire_many(7).await);
            }
            semaphore.add_permits(1);
        }
        tokio::task::yield_now().await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        Ok(records
            .into_iter()
            .map(|record| match record["id"].as_u64() {
                Some(id) if id % 10 == 9 => RecordResult::Failed(error_fields("NO_NINES", "no")),
                id => RecordResult::Answered([("answer".to_owned(), json!(id))].into_iter().collect()),
            })
            .collect())
    }
}

fn records(count: u64) -> impl Stream<Item = io::Result<Record>> + Send + Unpin {
    stream::iter((0..count).map(|position| {
        let fields = json!({ "id": position, "image": format!("{}.png", position / 3) });
        Ok(Record { position, fields: fields.as_object().cloned().ok_or_else(String::new) })
    }))
}

/// A folder with an output file.
struct OutputFolder {
    folder: tempfile::TempDir,
}

impl OutputFolder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Output {
        let path = self.folder.path().join("out.jsonl");
        Output::open(Some(&path), Format::Jsonl, &[], ExistingFile::Resume).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("out.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn ids(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn results_are_written_in_input_order() {
    let folder = OutputFolder::new();
    let task = EchoTask { first_group_delay: Some(Semaphore::new(0)), ..EchoTask::default() };
    let progress = Progress::in_log();
    let summary =
        run(&task, records(100), &mut folder.open(), &progress, &CONFIG, future::pending()).await.unwrap();
    assert_eq!(summary, RunSummary { written: 100, failed: 10, interrupted: false });
    let lines = folder.lines();
    assert_eq!(ids(&lines), (0..100).collect::<Vec<_>>());
    assert_eq!((&lines[8]["answer"], &lines[9]["error"]["reason"]), (&json!(8), &json!("NO_NINES")));
    assert!(task.max_in_flight.load(Ordering::Relaxed) <= CONFIG.max_in_flight);
}

#[tokio::test]
async fn interrupted_run_is_resumed() {
    let folder = OutputFolder::new();
    let progress = Progress::in_log();
    let (task, mut output) = (EchoTask::default(), folder.open());
    // Stops the run as soon as the first results are ready.
    let stop = tokio::task::yield_now();
    let first = run(&task, records(50), &mut output, &progress, &CONFIG, stop).await.unwrap();
    assert!(first.interrupted && first.written < 50, "{first:?}");
    let mut output = folder.open();
    assert_eq!(output.resume_point().records, first.written);
    let second = run(&task, records(50), &mut output, &progress, &CONFIG, future::pending()).await.unwrap();
    assert_eq!(second.written, 50 - first.written);
    assert_eq!(ids(&folder.lines()), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn output_of_another_input_is_not_resumed() {
    let folder = OutputFolder::new();
    let progress = Progress::in_log();
    run(&EchoTask::default(), records(5), &mut folder.open(), &progress, &CONFIG, future::pending())
        .await
        .unwrap();
    let other_records = records(20).map(|record| {
        record.map(|record| Record {
            position: record.position,
            fields: record.fields.map(|mut fields| {
                fields.insert("image".to_owned(), json!("other.png"));
                fields
            }),
        })
    });
    let mut output = folder.open();
    let error =
        run(&EchoTask::default(), other_records, &mut output, &progress, &CONFIG, future::pending()).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "output does not match the input: record 5 has another image");
}

#[tokio::test]
async fn invalid_line_fails_alone() {
    let folder = OutputFolder::new();
    let invalid = stream::iter([Ok(Record { position: 2, fields: Err("invalid".into()) })]);
    let input = records(2).chain(invalid).chain(stream::iter([]));
    let progress = Progress::in_log();
    let mut output = folder.open();
    let summary = run(&EchoTask::default(), input, &mut output, &progress, &CONFIG, future::pending()).await;
    let summary = summary.unwrap();
    assert_eq!((summary.written, summary.failed), (3, 1));
    let line = &folder.lines()[2];
    assert_eq!((&line["line"], &line["error"]["message"]), (&json!(3), &json!("invalid")));
}

#[tokio::test]
async fn task_error_stops_run_after_earlier_results() {
    struct RevokedTask;
    impl Task for RevokedTask {
        async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
            if records[0]["id"].as_u64() >= Some(6) {
                return Err("the key was revoked".to_owned());
            }
            Ok(vec![RecordResult::Answered(Fields::new()); records.len()])
        }
    }
    let folder = OutputFolder::new();
    let progress = Progress::in_log();
    let mut output = folder.open();
    let error = run(&RevokedTask, records(100), &mut output, &progress, &CONFIG, future::pending()).await;
    assert_eq!(error.unwrap_err().to_string(), "the key was revoked");
    assert_eq!(ids(&folder.lines()), (0..6).collect::<Vec<_>>());
}

#[tokio::test]
async fn fields_of_an_earlier_result_are_replaced() {
    let folder = OutputFolder::new();
    let old = [0, 9].map(|id| {
        let fields = json!({ "id": id, "error": "old", "answer": "old", "score": 1, "note": "other" });
        Ok(Record { position: id, fields: fields.as_object().cloned().ok_or_else(String::new) })
    });
    let (progress, mut output) = (Progress::in_log(), folder.open());
    let task = EchoTask::default();
    run(&task, stream::iter(old), &mut output, &progress, &CONFIG, future::pending()).await.unwrap();
    let [answered, failed] = folder.lines().try_into().unwrap();
    assert_eq!(answered, json!({ "id": 0, "answer": 0, "score": 1, "note": "other" }));
    let error = json!({ "reason": "NO_NINES", "message": "no" });
    assert_eq!(failed, json!({ "id": 9, "note": "other", "error": error }));
}

/// The milliseconds that a run takes for each record.
#[derive(Clone, Copy, Default)]
struct Delays {
    reading: u64,
    processing: u64,
    writing: u64,
    /// Whether the first record is rejected once, for nine seconds.
    is_busy: bool,
}

/// A task with delays, whose results have `timing`.
struct SlowTask {
    delays: Delays,
    timing: Option<Value>,
    calls: AtomicUsize,
}

impl Task for SlowTask {
    async fn process(&self, _: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 && self.delays.is_busy {
            return Ok(vec![RecordResult::Busy(Duration::from_secs(9), Fields::new())]);
        }
        pause(self.delays.processing).await;
        let timing = self.timing.iter().map(|timing| ("timing".to_owned(), timing.clone()));
        Ok(vec![RecordResult::Answered(timing.collect())])
    }
}

struct SlowSink(Delays);

impl Sink for SlowSink {
    async fn write(&mut self, _: Fields) -> io::Result<()> {
        pause(self.0.writing).await;
        Ok(())
    }
}

async fn pause(milliseconds: u64) {
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

/// Returns what bounds a run over `count` records, each in a separate group.
async fn bound_by(count: u64, max_in_flight: usize, delays: Delays, timing: Option<&Value>) -> String {
    let task = SlowTask { delays, timing: timing.cloned(), calls: AtomicUsize::new(0) };
    let records = stream::iter(0..count).then(async |position| {
        pause(delays.reading).await;
        Ok(Record { position, fields: Ok(Fields::new()) })
    });
    let config = BulkConfig { max_in_flight, retry_timeout: Duration::from_secs(60), ..CONFIG };
    let (progress, mut sink) = (Progress::in_log(), SlowSink(delays));
    let summary = process_records(&task, records, &mut sink, &progress, &config, future::pending()).await;
    assert_eq!(summary.unwrap().written, count);
    progress.bound_by().unwrap()
}

#[tokio::test(start_paused = true)]
async fn slowest_stage_bounds_the_run() {
    let timing = json!({ "total_ms": 100, "queue_ms": 50, "vision_ms": 20, "decode_ms": 20 });
    let (timing, none) = (Some(&timing), Delays::default());
    // A task that takes four times as long as reading is no limit to eight groups in flight.
    let reading = Delays { reading: 10, processing: 40, ..none };
    assert_eq!(bound_by(1000, 8, reading, timing).await, "reading 100 %");
    let processing = Delays { reading: 10, processing: 400, ..none };
    let found = bound_by(1000, 8, processing, timing).await;
    assert!(found.starts_with("engine ") && found.contains("decoding "), "{found}");
    assert_eq!(bound_by(80, 8, Delays { processing: 40, ..none }, None).await, "processing 100 %");
    assert_eq!(bound_by(80, 8, Delays { writing: 10, ..none }, timing).await, "writing 100 %");
}

#[tokio::test(start_paused = true)]
async fn waits_of_a_run_are_shared_out_in_full() {
    // With one group in flight, each record is processed and written before the next one.
    let delays = Delays { processing: 60, writing: 40, ..Delays::default() };
    assert_eq!(bound_by(10, 1, delays, None).await, "processing 60 %, writing 40 %");
    let timing = json!({ "total_ms": 1000, "vision_ms": 1000 });
    let delays = Delays { processing: 1000, is_busy: true, ..Delays::default() };
    assert_eq!(bound_by(1, 1, delays, Some(&timing)).await, "retries 90 %, engine 10 %");
}
