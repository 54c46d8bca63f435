//! The lines of an output that failed are asked again. All of its lines go into a new file, which then takes its place.

use std::{fs, future::Future, io, path::Path, pin::pin};

use futures::{
    Stream, StreamExt as _,
    future::{Either, select},
    stream,
};
use tempfile::NamedTempFile;

use crate::{
    Existing, Fields, Format, Output, Plan, Progress, Record, Stopped, Summary, Task,
    previous_output::{Earlier, Line},
    run::{IDENTITY, answered, check_identity},
};

/// An output that an earlier run wrote.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The file.
    pub path: &'a Path,
    /// How its records are written down.
    pub format: Format,
    /// Those of CSV.
    pub columns: &'a [&'static str],
}

/// What becomes of a line.
enum Place {
    /// It stays.
    Kept(Line),
    /// This takes its place; whether it is a failure again.
    Asked(Fields, bool),
}

/// Asks again those of `records` whose lines in `output` have an error, and counts them. The file changes in one step at the end,
/// which is also when `stop` ends or no record can be answered any more: lines that were not come to then stay as they were.
///
/// # Errors
/// See [`Stopped`].
pub async fn retry(
    task: &impl Task,
    records: impl Stream<Item = io::Result<Record>> + Send + Unpin,
    written: Written<'_>,
    progress: &Progress,
    plan: &Plan,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Stopped> {
    let Written { path, format, columns } = written;
    // The file that a link leads to is changed, not the link.
    let path = &*fs::canonicalize(path).map_err(Stopped::Output)?;
    let earlier = || Earlier::open(path, format, columns).map_err(Stopped::Earlier);
    let file = beside(path).map_err(Stopped::Output)?;
    let output = Output::open(Some(file.path()), format, columns, Existing::Replace);
    let mut output = output.map_err(Stopped::Earlier)?;
    let places = records
        .zip(stream::iter(earlier()?))
        .map(|(record, line)| async {
            place(task, record.map_err(Stopped::Input)?, line.map_err(Stopped::Output)?, plan).await
        })
        .buffered(plan.in_flight.max(1));
    let (mut places, mut stop) = (pin!(places), pin!(stop));
    let (mut summary, mut end, mut lines) = (Summary::default(), None, 0);
    loop {
        let wrote = match select(places.next(), &mut stop).await {
            Either::Left((Some(Ok(Place::Kept(line))), _)) => output.copy(line.bytes()),
            Either::Left((Some(Ok(Place::Asked(fields, failed))), _)) => {
                summary.written += 1;
                summary.failed += u64::from(failed);
                progress.advance(failed);
                output.write(&fields)
            }
            Either::Left((Some(Err(Stopped::Task(cause))), _)) => {
                end = Some(Stopped::Task(cause));
                break;
            }
            Either::Left((Some(Err(stopped)), _)) => return Err(stopped),
            Either::Left((None, _)) => break,
            Either::Right(_) => {
                summary.interrupted = true;
                break;
            }
        };
        wrote.map_err(Stopped::Output)?;
        lines += 1;
    }
    for line in earlier()?.skip(lines) {
        line.and_then(|line| output.copy(line.bytes())).map_err(Stopped::Output)?;
    }
    let synced = file.as_file().sync_all();
    synced.and_then(|()| Ok(file.persist(path).map(drop)?)).map_err(Stopped::Output)?;
    end.map_or(Ok(summary), Err)
}

/// A new file in the same folder, so that it can take the place of `path` in one step.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".blip-serve-retry-").tempfile_in(folder)?;
    file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
    Ok(file)
}

async fn place(task: &impl Task, record: Record, line: Line, plan: &Plan) -> Result<Place, Stopped> {
    let Line::Failed(_, written) = &line else { return Ok(Place::Kept(line)) };
    // The line of a record that could not be read tells nothing of it.
    if IDENTITY.iter().any(|field| written.contains_key(*field)) {
        check_identity(&record, written)?;
    }
    let asked = answered(task, vec![record], plan.patience).await?;
    Ok(asked.into_iter().next().map_or(Place::Kept(line), |(fields, failed)| Place::Asked(fields, failed)))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        time::Duration,
    };

    use futures::future::{pending, ready};
    use serde_json::json;

    use super::*;
    use crate::Outcome;

    const PLAN: Plan = Plan { in_flight: 4, group: 4, shared: "image", patience: Duration::ZERO };

    /// Fails at every third record until it is mended; lost from a number on.
    struct Thirds {
        mended: AtomicBool,
        asked: AtomicU64,
        lost_from: u64,
    }

    impl Thirds {
        fn new(lost_from: u64) -> Self {
            Self { mended: AtomicBool::new(false), asked: AtomicU64::new(0), lost_from }
        }
    }

    impl Task for Thirds {
        async fn answer(&self, records: Vec<Fields>) -> Result<Vec<Outcome>, String> {
            // An answer takes a while.
            tokio::task::yield_now().await;
            let outcome = |record: Fields| {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let id = record["id"].as_u64().unwrap();
                match (id % 3, self.mended.load(Ordering::Relaxed)) {
                    (_, true) if id >= self.lost_from => Outcome::Lost("gone".to_owned()),
                    (0, false) => Outcome::Failed([("error".to_owned(), json!("no"))].into_iter().collect()),
                    _ => Outcome::Answered([("answer".to_owned(), json!(id))].into_iter().collect()),
                }
            };
            Ok(records.into_iter().map(outcome).collect())
        }
    }

    fn records(image: &'static str) -> impl Stream<Item = io::Result<Record>> + Send + Unpin {
        stream::iter((0..12).map(move |position| {
            let fields = json!({ "id": position, "image": image });
            Ok(Record { position, fields: fields.as_object().cloned().ok_or_else(String::new) })
        }))
    }

    /// An output whose every third line has failed, in its folder.
    async fn first_run(task: &Thirds, format: Format) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let mut output =
            Output::open(Some(&folder.path().join("out")), format, COLUMNS, Existing::Refuse).unwrap();
        let progress = Progress::logged();
        let summary = crate::run(task, records("a.png"), &mut output, &progress, &PLAN, pending()).await;
        assert_eq!(summary.unwrap().failed, 4);
        task.mended.store(true, Ordering::Relaxed);
        task.asked.store(0, Ordering::Relaxed);
        let written = std::fs::read_to_string(folder.path().join("out")).unwrap();
        (folder, written)
    }

    const COLUMNS: &[&str] = &["id", "image", "answer", "error"];

    async fn again(
        task: &Thirds,
        folder: &tempfile::TempDir,
        format: Format,
        image: &'static str,
        stop: impl Future<Output = ()>,
    ) -> (Result<Summary, Stopped>, String) {
        let path = folder.path().join("out");
        let written = Written { path: &path, format, columns: COLUMNS };
        let summary = retry(task, records(image), written, &Progress::logged(), &PLAN, stop).await;
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "something is left beside the output"
        );
        (summary, std::fs::read_to_string(path).unwrap())
    }

    #[tokio::test]
    async fn what_failed_is_asked_again_and_every_other_line_stays_to_the_byte() {
        for format in [Format::Jsonl, Format::Csv] {
            let task = Thirds::new(u64::MAX);
            let (folder, before) = first_run(&task, format).await;
            let (summary, after) = again(&task, &folder, format, "a.png", pending()).await;
            assert_eq!(summary.unwrap(), Summary { written: 4, failed: 0, interrupted: false });
            assert_eq!(task.asked.load(Ordering::Relaxed), 4);
            let names = usize::from(format == Format::Csv);
            for (at, (was, is)) in before.lines().zip(after.lines()).enumerate() {
                let failed = at >= names && (at - names).is_multiple_of(3);
                assert_eq!(was != is, failed, "{was} became {is}");
            }
            assert_eq!(before.lines().count(), after.lines().count());
        }
    }

    #[tokio::test]
    async fn a_run_that_is_stopped_leaves_whole_lines_in_their_places() {
        let task = Thirds::new(u64::MAX);
        let (folder, before) = first_run(&task, Format::Jsonl).await;
        let (summary, after) = again(&task, &folder, Format::Jsonl, "a.png", ready(())).await;
        assert!(summary.unwrap().interrupted);
        assert_eq!(after.lines().count(), before.lines().count());
    }

    #[tokio::test]
    async fn what_is_answered_before_the_server_is_lost_is_kept() {
        let task = Thirds::new(6);
        let (folder, before) = first_run(&task, Format::Jsonl).await;
        let (summary, after) = again(&task, &folder, Format::Jsonl, "a.png", pending()).await;
        assert_eq!(summary.unwrap_err().to_string(), "gone");
        let changed: Vec<usize> = before
            .lines()
            .zip(after.lines())
            .enumerate()
            .filter_map(|(at, (was, is))| (was != is).then_some(at))
            .collect();
        assert_eq!((changed, after.lines().count()), (vec![0, 3], 12));
    }

    #[tokio::test]
    async fn an_output_of_another_input_is_left_as_it_is() {
        let task = Thirds::new(u64::MAX);
        let (folder, before) = first_run(&task, Format::Jsonl).await;
        let (summary, after) = again(&task, &folder, Format::Jsonl, "b.png", pending()).await;
        let error = summary.unwrap_err().to_string();
        assert_eq!(error, "the output is none of this input: its record 1 is about another image");
        assert_eq!(after, before);
    }
}
