//! Retries of failed samples, in shards of all formats.

use std::{
    fs,
    future::{Future, pending, ready},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    output::ExistingFile,
    part::Part,
    progress::Progress,
    record::{Defaults, Fields},
    run::BulkConfig,
    shards::{
        columns::{ResultColumn, ShardColumns, TextColumn},
        job::ShardFiles,
        run::{ShardOptions, ShardSummary, run_shards},
    },
    storage::Location,
    task::{RecordResult, Task},
};

const CONFIG: BulkConfig = BulkConfig {
    max_in_flight: 4,
    max_group_records: 2,
    group_by: "image",
    result_fields: &["caption"],
    retry_timeout: Duration::ZERO,
};

/// Writes a shard whose samples have these texts.
type WriteShard = fn(&Path, &[&str]);

const FORMATS: &[(&str, WriteShard)] = &[
    ("tar", write_tar),
    #[cfg(feature = "parquet")]
    ("parquet", write_parquet),
];

fn write_tar(path: &Path, texts: &[&str]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (at, text) in texts.iter().enumerate() {
        for (extension, content) in [("png", "image"), ("txt", text), ("cls", "7")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mtime(1);
            archive.append_data(&mut header, format!("{at:03}.{extension}"), content.as_bytes()).unwrap();
        }
    }
    archive.finish().unwrap();
}

#[cfg(feature = "parquet")]
fn write_parquet(path: &Path, texts: &[&str]) {
    use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
    use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};

    let images: BinaryArray = texts.iter().map(|_| Some(b"image")).collect();
    let texts: StringArray = texts.iter().copied().map(Some).collect();
    let columns: [(&str, ArrayRef); 2] = [("image", Arc::new(images)), ("text", Arc::new(texts))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A task whose caption is the text. It fails for texts that begin with "late" until it is
/// repaired, and always for those that begin with "bad".
#[derive(Default)]
struct Captioner {
    is_repaired: bool,
    calls: AtomicU64,
}

impl Task for Captioner {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        // Gives way, as a request to a server does.
        tokio::task::yield_now().await;
        let result = |record: &Fields| {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let text = record["text"].as_str().unwrap();
            let fields = |value: Value| value.as_object().cloned().unwrap();
            match text.starts_with("bad") || (text.starts_with("late") && !self.is_repaired) {
                true => RecordResult::Failed(fields(json!({"error": {"reason": "X", "message": text}}))),
                false => RecordResult::Answered(fields(json!({"caption": text}))),
            }
        };
        Ok(records.iter().map(result).collect())
    }
}

/// Processes the shards of the folder `in` into a folder. Returns the summary and the errors of
/// shards.
async fn process(
    task: &Captioner,
    folder: &Path,
    out: &str,
    existing: ExistingFile,
    stop: impl Future<Output = ()>,
) -> (ShardSummary, Vec<String>) {
    process_named(task, folder, (out, "blip"), existing, stop).await
}

/// The same with another name of results.
async fn process_named(
    task: &Captioner,
    folder: &Path,
    (out, result_name): (&str, &str),
    existing: ExistingFile,
    stop: impl Future<Output = ()>,
) -> (ShardSummary, Vec<String>) {
    let text = TextColumn { name: "text".to_owned(), field: "text", is_required: true };
    let results = vec![ResultColumn::text("caption")];
    let options = ShardOptions {
        result_name: result_name.to_owned(),
        defaults: Defaults::default(),
        columns: ShardColumns { image: None, texts: vec![text], results },
    };
    let (input, output) = (folder.join("in").into(), folder.join(out).into());
    let files = ShardFiles::find(&input, &output, existing, Part::WHOLE).unwrap();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&errors);
    let on_unreadable = move |_: &Location, error: &std::io::Error| {
        received.lock().unwrap().push(error.to_string());
    };
    let progress = Progress::in_log();
    let summary = run_shards(task, files, options, &progress, &CONFIG, on_unreadable, stop).await.unwrap();
    let errors = errors.lock().unwrap().clone();
    (summary, errors)
}

/// The content and the identity of each file in a folder, by its name.
type Files = Vec<(String, Vec<u8>, u64)>;

fn files(folder: &Path) -> Files {
    let mut files: Files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let inode = fs::metadata(&path).unwrap().ino();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap(), inode)
        })
        .collect();
    files.sort();
    files
}

/// Writes three shards, of which the second one has no failure, and processes them.
async fn first_run(extension: &str, write: WriteShard) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    for (name, texts) in [
        ("a", &["late 0", "one", "bad 2", "three", "late 4"][..]),
        ("b", &["five", "six"]),
        ("c", &["seven", "eight", "nine", "ten", "late 11", "twelve", "thirteen"]),
    ] {
        write(&folder.path().join(format!("in/{name}.{extension}")), texts);
    }
    let task = Captioner::default();
    let (summary, errors) = process(&task, folder.path(), "out", ExistingFile::Refuse, pending()).await;
    assert_eq!((summary.complete_shards, summary.samples.failed, errors.len()), (3, 4, 0));
    folder
}

#[tokio::test]
async fn only_failed_samples_are_processed_and_change() {
    for (extension, write) in FORMATS {
        let folder = first_run(extension, *write).await;
        let before = files(&folder.path().join("out"));
        let task = Captioner { is_repaired: true, ..Captioner::default() };
        let existing = ExistingFile::RetryFailed;
        let (summary, errors) = process(&task, folder.path(), "out", existing, pending()).await;
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!((summary.samples.written, summary.samples.failed), (4, 1));
        assert_eq!((summary.complete_shards, summary.unchanged_shards, summary.failed_shards), (2, 1, 0));
        assert_eq!(task.calls.load(Ordering::Relaxed), 4);
        let after = files(&folder.path().join("out"));
        assert_eq!(before[1], after[1], "a shard without failures is not written");
        // A run in which the samples did not fail gives the same bytes.
        process(&task, folder.path(), "whole", ExistingFile::Refuse, pending()).await;
        let content = |files: &Files| files.iter().map(|file| file.1.clone()).collect::<Vec<_>>();
        assert!(content(&after) == content(&files(&folder.path().join("whole"))), "{extension}");
    }
}

#[tokio::test]
async fn shard_without_output_is_processed_too() {
    for (extension, write) in FORMATS {
        let folder = first_run(extension, *write).await;
        let path = |name: &str| folder.path().join(format!("out/{name}.{extension}"));
        let whole = fs::read(path("b")).unwrap();
        fs::remove_file(path("b")).unwrap();
        let task = Captioner::default();
        let existing = ExistingFile::RetryFailed;
        let (summary, _) = process(&task, folder.path(), "out", existing, pending()).await;
        assert_eq!((summary.samples.written, summary.samples.failed, summary.complete_shards), (6, 4, 3));
        assert!(fs::read(path("b")).unwrap() == whole, "{extension}");
    }
}

#[tokio::test]
async fn stopped_retry_leaves_the_output_as_it_was() {
    for (extension, write) in FORMATS {
        let folder = first_run(extension, *write).await;
        let before = files(&folder.path().join("out"));
        let task = Captioner { is_repaired: true, ..Captioner::default() };
        let existing = ExistingFile::RetryFailed;
        let (summary, errors) = process(&task, folder.path(), "out", existing, ready(())).await;
        assert!(summary.samples.interrupted && errors.is_empty());
        assert_eq!(files(&folder.path().join("out")), before);
    }
}

#[tokio::test]
async fn output_of_another_input_and_broken_output_are_errors() {
    for (extension, write) in FORMATS {
        let folder = first_run(extension, *write).await;
        let path = |name: &str| folder.path().join(name).with_extension(extension);
        write(&path("in/a"), &["late 0", "one", "bad 2", "three"]);
        write(&path("in/b"), &["five"]);
        let mut torn = fs::read(path("out/c")).unwrap();
        torn.truncate(torn.len() / 2);
        fs::write(path("out/c"), torn).unwrap();
        let before = files(&folder.path().join("out"));
        let task = Captioner { is_repaired: true, ..Captioner::default() };
        let existing = ExistingFile::RetryFailed;
        let (summary, errors) = process(&task, folder.path(), "out", existing, pending()).await;
        assert_eq!((summary.complete_shards, summary.unchanged_shards, summary.failed_shards), (0, 1, 2));
        let start = format!("cannot retry {}: ", path("out/a").display());
        assert!(
            errors[0].starts_with(&start) && errors[0].contains("the input has no sample "),
            "{errors:?}"
        );
        let start = format!("cannot retry {}: the ", path("out/c").display());
        assert!(errors[1].starts_with(&start) && errors[1].contains("broken"), "{errors:?}");
        assert_eq!(files(&folder.path().join("out")), before);
    }
}

#[tokio::test]
async fn output_with_other_results_is_an_error() {
    for (extension, write) in FORMATS {
        let folder = first_run(extension, *write).await;
        let before = files(&folder.path().join("out"));
        let (task, names) = (Captioner::default(), ("out", "other"));
        let existing = ExistingFile::RetryFailed;
        let (summary, errors) = process_named(&task, folder.path(), names, existing, pending()).await;
        assert_eq!((summary.failed_shards, summary.samples.written), (3, 0));
        let expected = ["sample 000: member .other.json is missing", "no column of this name: other"];
        assert!(errors.iter().all(|error| expected.iter().any(|end| error.ends_with(end))), "{errors:?}");
        assert_eq!(files(&folder.path().join("out")), before);
    }
}
