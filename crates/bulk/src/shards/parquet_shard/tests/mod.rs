mod damaged;

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow_array::{
    ArrayRef, BinaryArray, DictionaryArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
    cast::AsArray,
    types::{Int8Type, Int64Type},
};
use arrow_schema::{DataType, Field, Schema};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::{metadata::KeyValue, properties::WriterProperties},
};
use proptest::prelude::*;
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
    task::{RecordResult, Task},
};

const CONFIG: BulkConfig = BulkConfig {
    max_in_flight: 4,
    max_group_records: 3,
    group_by: "image",
    result_fields: &["caption"],
    retry_timeout: Duration::ZERO,
};

/// A task whose caption is the text and the image of the record.
struct Echo;

fn echo(text: Option<&str>, image: &str) -> String {
    format!("{} {image}", text.unwrap_or("none"))
}

fn fields(value: Value) -> Fields {
    value.as_object().unwrap().clone()
}

/// Returns the caption of a record, if it has an image.
fn caption(record: &Fields) -> Option<String> {
    let text = |field| record.get(field).and_then(Value::as_str);
    text("image").map(|image| echo(text("text"), image))
}

impl Task for Echo {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let result = |record: &Fields| match caption(record) {
            Some(caption) => RecordResult::Answered(fields(json!({"caption": caption, "timing": {}}))),
            None => RecordResult::Failed(fields(json!({"error": {"reason": "IMAGE", "message": "missing"}}))),
        };
        Ok(records.iter().map(result).collect())
    }
}

fn columns() -> ShardColumns {
    let text = TextColumn { name: "text".to_owned(), field: "text", is_required: false };
    let results = vec![ResultColumn::text("caption")];
    ShardColumns { image: None, texts: vec![text], results }
}

/// Runs [`Echo`] on the shards of a folder. Returns the summary and the errors of shards.
async fn process(folder: &std::path::Path, name: &str) -> (ShardSummary, Vec<String>) {
    let options =
        ShardOptions { result_name: name.to_owned(), defaults: Defaults::default(), columns: columns() };
    let output = folder.join("out");
    let files = ShardFiles::find(&folder.into(), &output.into(), ExistingFile::Refuse, Part::WHOLE).unwrap();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let on_unreadable = {
        let errors = Arc::clone(&errors);
        move |_: &crate::storage::Location, error: &std::io::Error| {
            errors.lock().unwrap().push(error.to_string())
        }
    };
    let progress = Progress::in_log();
    let stop = std::future::pending();
    let summary = run_shards(&Echo, files, options, &progress, &CONFIG, on_unreadable, stop).await.unwrap();
    let errors = errors.lock().unwrap().clone();
    (summary, errors)
}

type Row = (Option<Vec<u8>>, Option<String>, Option<i64>, Vec<Option<i64>>);

/// Returns rows with an image, a text and columns of types that the program does not use.
fn to_batch(rows: &[Row]) -> RecordBatch {
    let bytes: BinaryArray = rows.iter().map(|row| row.0.as_deref()).collect();
    let paths: StringArray =
        rows.iter().map(|row| row.1.as_ref().map(|text| format!("{text}.png"))).collect();
    let images = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), Arc::new(bytes) as ArrayRef),
        (Arc::new(Field::new("path", DataType::Utf8, true)), Arc::new(paths)),
    ]);
    let texts: StringArray = rows.iter().map(|row| row.1.clone()).collect();
    let labels: DictionaryArray<Int8Type> = rows.iter().map(|row| row.1.as_deref()).collect();
    let numbers: Int64Array = rows.iter().map(|row| row.2).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.2).collect();
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
        rows.iter().map(|row| row.2.map(|_| row.3.clone())),
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("label", Arc::new(labels)),
        ("image", Arc::new(images)),
        ("number", Arc::new(numbers)),
        ("text", Arc::new(texts)),
        ("time", Arc::new(times.with_timezone("+02:00"))),
        ("lists", Arc::new(lists)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn to_file(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// Returns all rows of a file, its row groups' sizes, and its metadata.
fn read(path: &std::path::Path) -> (RecordBatch, Vec<i64>, Vec<KeyValue>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let metadata = builder.metadata().clone();
    let sizes = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    let key_values = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let schema = builder.schema().clone();
    let rows = builder.with_batch_size(1 << 20).build().unwrap().next();
    (rows.map_or_else(|| RecordBatch::new_empty(schema), Result::unwrap), sizes, key_values)
}

fn captions(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let results = batch.column_by_name(name).unwrap().as_struct();
    let captions = results.column_by_name("caption").unwrap().as_string::<i32>();
    captions.iter().map(|caption| caption.map(str::to_owned)).collect()
}

fn codecs() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(Default::default()),
        Compression::LZ4_RAW,
    ])
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let bytes = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 1..40));
    let lists = prop::collection::vec(any::<Option<i64>>(), 0..4);
    prop::collection::vec((bytes, prop::option::of("[a-z]{0,3}"), any::<Option<i64>>(), lists), 1..40)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn output_has_all_columns_and_results_in_order(
        rows in rows(), codec in codecs(), group_rows in 1_usize..12, has_dictionaries: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let batch = to_batch(&rows);
        let note = KeyValue::new("note".to_owned(), "of the author".to_owned());
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_dictionary_enabled(has_dictionaries)
            .set_bloom_filter_enabled(has_dictionaries)
            .set_max_row_group_row_count(Some(group_rows))
            .set_data_page_row_count_limit(3)
            .set_write_batch_size(2)
            .set_key_value_metadata(Some(vec![note.clone()]))
            .build();
        fs::write(folder.path().join("a.parquet"), to_file(&batch, properties)).unwrap();
        let (summary, errors) = runtime().block_on(process(folder.path(), "blip"));
        prop_assert_eq!(errors, Vec::<String>::new());
        prop_assert_eq!((summary.complete_shards, summary.samples.written), (1, rows.len() as u64));
        let (input, sizes, _) = read(&folder.path().join("a.parquet"));
        let (output, output_sizes, key_values) = read(&folder.path().join("out/a.parquet"));
        prop_assert_eq!(sizes, output_sizes);
        prop_assert!(key_values.contains(&note));
        let old: Vec<usize> = (0..input.num_columns()).collect();
        prop_assert_eq!(output.project(&old).unwrap(), input);
        let expected: Vec<Option<String>> = rows.iter().map(|(bytes, text, ..)| {
            let path = text.as_ref().map(|text| folder.path().join(format!("{text}.png")));
            let image = match bytes {
                Some(bytes) => {
                    use base64::Engine as _;
                    Some(format!("data:;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
                }
                None => path.map(|path| path.to_string_lossy().into_owned()),
            };
            image.map(|image| echo(text.as_deref(), &image))
        }).collect();
        prop_assert_eq!(captions(&output, "blip"), expected);
        let failed = rows.iter().filter(|(bytes, text, ..)| bytes.is_none() && text.is_none()).count();
        prop_assert_eq!(summary.samples.failed, failed as u64);
    }
}

fn row(number: u8) -> Row {
    (Some(vec![number; 4]), Some(format!("text {number}")), Some(number.into()), vec![])
}

#[tokio::test]
async fn results_of_an_earlier_run_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let batch = to_batch(&[row(0), row(1)]);
    fs::write(folder.path().join("a.parquet"), to_file(&batch, WriterProperties::default())).unwrap();
    process(folder.path(), "blip").await;
    let first = folder.path().join("out");
    process(&first, "blip").await;
    let (again, ..) = read(&first.join("out/a.parquet"));
    assert_eq!(again, read(&first.join("a.parquet")).0);
    process(&first.join("out"), "other").await;
    let (both, ..) = read(&first.join("out/out/a.parquet"));
    assert_eq!(both.num_columns(), batch.num_columns() + 2);
    assert_eq!(captions(&both, "blip"), captions(&both, "other"));
}

#[tokio::test]
async fn column_of_others_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.parquet"), to_file(&to_batch(&[row(0)]), WriterProperties::default()))
        .unwrap();
    let (summary, errors) = process(folder.path(), "number").await;
    assert_eq!((summary.complete_shards, summary.failed_shards), (0, 1));
    assert_eq!(errors, ["the column number is no result of an earlier run: choose another name of results"]);
}

#[tokio::test]
async fn files_without_rows_images_or_content_are_handled() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("a.parquet", &to_file(&to_batch(&[]), WriterProperties::default()));
    write("b.parquet", b"");
    let schema = Schema::new(vec![Field::new("number", DataType::Int64, true)]);
    let numbers = RecordBatch::try_new(schema.into(), vec![Arc::new(Int64Array::from(vec![1]))]);
    write("c.parquet", &to_file(&numbers.unwrap(), WriterProperties::default()));
    write("d.parquet", &to_file(&to_batch(&[row(0)]), WriterProperties::default()));
    let (summary, errors) = process(folder.path(), "blip").await;
    assert_eq!((summary.complete_shards, summary.failed_shards, summary.samples.written), (2, 2, 1));
    assert!(errors[0].starts_with("the Parquet file is broken: "), "{errors:?}");
    assert_eq!(errors[1], "no column of this name: image, img, jpg. The columns are number");
    assert_eq!(read(&folder.path().join("out/a.parquet")).0.num_columns(), 7);
}
