use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{future, stream};
use tokio::sync::Semaphore;

use super::*;
use crate::{Existing, Format};

const PLAN: Plan = Plan { in_flight: 8, group: 4, shared: "image", patience: Duration::ZERO };

/// Answers with the record's own number; records of the first group of each eight come last.
#[derive(Default)]
struct Echo {
    first_waits: Option<Semaphore>,
    in_flight: AtomicUsize,
    most: AtomicUsize,
}

impl Task for Echo {
    async fn answer(&self, records: Vec<Fields>) -> Result<Vec<Outcome>, String> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        if let Some(gate) = &self.first_waits {
            if records.iter().any(|record| record["id"] == json!(0)) {
                drop(gate.acquire_many(7).await);
            }
            gate.add_permits(1);
        }
        tokio::task::yield_now().await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        Ok(records
            .into_iter()
            .map(|record| match record["id"].as_u64() {
                Some(id) if id % 10 == 9 => Outcome::Failed(error("NO_NINES", "no")),
                id => Outcome::Answered([("answer".to_owned(), json!(id))].into_iter().collect()),
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

struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn output(&self) -> Output {
        Output::open(Some(&self.folder.path().join("out.jsonl")), Format::Jsonl, &[], Existing::Resume)
            .unwrap()
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
async fn answers_are_written_in_the_order_of_the_input_whatever_order_they_come_in() {
    let written = Written::new();
    let task = Echo { first_waits: Some(Semaphore::new(0)), ..Echo::default() };
    let progress = Progress::logged();
    let summary =
        run(&task, records(100), &mut written.output(), &progress, &PLAN, future::pending()).await.unwrap();
    assert_eq!(summary, Summary { written: 100, failed: 10, interrupted: false });
    let lines = written.lines();
    assert_eq!(ids(&lines), (0..100).collect::<Vec<_>>());
    assert_eq!((&lines[8]["answer"], &lines[9]["error"]["reason"]), (&json!(8), &json!("NO_NINES")));
    assert!(task.most.load(Ordering::Relaxed) <= PLAN.in_flight);
}

#[tokio::test]
async fn a_run_that_is_stopped_anywhere_is_gone_on_with() {
    let written = Written::new();
    let progress = Progress::logged();
    let (task, mut output) = (Echo::default(), written.output());
    // Once the first answers are there.
    let soon = tokio::task::yield_now();
    let first = run(&task, records(50), &mut output, &progress, &PLAN, soon).await.unwrap();
    assert!(first.interrupted && first.written < 50, "{first:?}");
    let mut output = written.output();
    assert_eq!(output.resumed().records, first.written);
    let second = run(&task, records(50), &mut output, &progress, &PLAN, future::pending()).await.unwrap();
    assert_eq!(second.written, 50 - first.written);
    assert_eq!(ids(&written.lines()), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_output_of_another_input_is_not_gone_on_with() {
    let written = Written::new();
    let progress = Progress::logged();
    run(&Echo::default(), records(5), &mut written.output(), &progress, &PLAN, future::pending())
        .await
        .unwrap();
    let others = records(20).map(|record| {
        record.map(|record| Record {
            position: record.position,
            fields: record.fields.map(|mut fields| {
                fields.insert("image".to_owned(), json!("other.png"));
                fields
            }),
        })
    });
    let error = run(&Echo::default(), others, &mut written.output(), &progress, &PLAN, future::pending())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the output is none of this input: its record 5 is about another image");
}

#[tokio::test]
async fn a_line_that_cannot_be_read_fails_alone() {
    let written = Written::new();
    let wrong = stream::iter([Ok(Record { position: 2, fields: Err("no JSON".into()) })]);
    let input = records(2).chain(wrong).chain(stream::iter([]));
    let progress = Progress::logged();
    let summary = run(&Echo::default(), input, &mut written.output(), &progress, &PLAN, future::pending())
        .await
        .unwrap();
    assert_eq!((summary.written, summary.failed), (3, 1));
    let line = &written.lines()[2];
    assert_eq!((&line["line"], &line["error"]["message"]), (&json!(3), &json!("no JSON")));
}

#[tokio::test]
async fn what_can_never_be_answered_stops_the_run_with_what_came_before_written() {
    struct Refusing;
    impl Task for Refusing {
        async fn answer(&self, records: Vec<Fields>) -> Result<Vec<Outcome>, String> {
            if records[0]["id"].as_u64() >= Some(6) {
                return Err("the key was taken back".to_owned());
            }
            Ok(vec![Outcome::Answered(Fields::new()); records.len()])
        }
    }
    let written = Written::new();
    let progress = Progress::logged();
    let error =
        run(&Refusing, records(100), &mut written.output(), &progress, &PLAN, future::pending()).await;
    assert_eq!(error.unwrap_err().to_string(), "the key was taken back");
    assert_eq!(ids(&written.lines()), (0..6).collect::<Vec<_>>());
}
