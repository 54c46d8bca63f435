//! Puts record files together.

use std::{
    fs,
    io::{self, BufReader, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use futures::{Stream, StreamExt as _};
use tempfile::NamedTempFile;

use crate::{
    format::Format,
    input::Input,
    record::{Fields, Record, parse, parse_csv_cells},
    record_reader::{MAX_RECORD_BYTES, ReadStatus, RecordReader},
    run::{BulkError, check_identity},
    storage::{FileStream, Location, StoredFile, is_same_file},
};

/// The input that the parts are the output of.
#[derive(Clone, Debug)]
pub struct MergeInput {
    /// The input.
    pub input: Input,
    /// Its name in errors.
    pub name: String,
}

/// The result of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeSummary {
    /// The records of all parts.
    pub records: u64,
    /// Those with an error.
    pub failed: u64,
}

/// Writes the records of `parts`, one after the other, into the file `output`.
///
/// The bytes of records stay equal. A CSV output has the line of column names once. The output
/// has its name only when it is complete: an existing file is replaced in one step. With `input`,
/// each record must belong to the input record at its position. Returns `None`, and writes nothing,
/// if `is_stopped` says so after some record.
///
/// # Errors
/// A part that cannot be read, or has an incomplete or invalid record. CSV files with different
/// columns. Parts that do not have the records of the input. An output that is the input, or that
/// cannot be written.
pub async fn merge_records(
    parts: &[Location],
    format: Format,
    output: &Path,
    input: Option<MergeInput>,
    is_stopped: impl Fn() -> bool,
) -> Result<Option<MergeSummary>, String> {
    let write_error = |error: io::Error| format!("cannot write {}: {error}", output.display());
    if let Some(MergeInput { input, name }) = &input
        && input.file.as_ref().is_some_and(|file| is_same_file(file, &output.into()))
    {
        return Err(format!("the output is the input {name}"));
    }
    let file = create_beside(output).map_err(write_error)?;
    let mut writer = BufWriter::with_capacity(1 << 16, file.as_file());
    let mut check = match input {
        Some(MergeInput { input, name }) => {
            let records = input.records().map_err(|error| format!("cannot read {name}: {error}"))?;
            Some(InputCheck { records, name, position: 0 })
        }
        None => None,
    };
    let (mut columns, mut summary) = (None, MergeSummary::default());
    for part in parts {
        let mut part = PartFile::open(part, format)?;
        if let Some(line) = part.check_columns(&mut columns)? {
            writer.write_all(&line).map_err(write_error)?;
        }
        while let Some((line, fields)) = part.next()? {
            if let Some(check) = &mut check {
                check.next(&part, &fields).await?;
            }
            writer.write_all(&line).map_err(write_error)?;
            summary.records += 1;
            summary.failed += u64::from(fields.get("error").is_some_and(|error| !error.is_null()));
            if is_stopped() {
                return Ok(None);
            }
        }
    }
    if let Some(check) = check {
        check.end().await?;
    }
    let synced = writer.flush().and_then(|()| file.as_file().sync_all());
    drop(writer);
    synced.and_then(|()| Ok(file.persist(output).map(drop)?)).map_err(write_error)?;
    Ok(Some(summary))
}

/// Creates a file in the folder of `path`, which it can replace in one step.
fn create_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Temporary files are private. An output is readable as other new files: the umask applies.
    let file = tempfile::Builder::new()
        .prefix(".blip-serve-merge-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    if let Ok(metadata) = fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    Ok(file)
}

/// One part.
struct PartFile<'a> {
    file: &'a Location,
    reader: RecordReader<BufReader<FileStream>>,
    format: Format,
    columns: Vec<String>,
    /// The number of lines that were read. For CSV it counts records.
    line: u64,
}

impl<'a> PartFile<'a> {
    fn open(file: &'a Location, format: Format) -> Result<Self, String> {
        let stream = StoredFile::open(file).and_then(StoredFile::into_stream);
        let stream = stream.map_err(|error| format!("cannot read {file}: {error}"))?;
        let reader = BufReader::with_capacity(1 << 16, stream);
        let reader = RecordReader::new(reader, format, MAX_RECORD_BYTES);
        Ok(Self { file, reader, format, columns: Vec::new(), line: 0 })
    }

    fn error(&self, reason: &str) -> String {
        format!("{}, line {}: {reason}", self.file, self.line)
    }

    /// Reads the column names of a CSV file. Returns the line if it is the first one of all parts.
    fn check_columns(&mut self, columns: &mut Option<Vec<String>>) -> Result<Option<Vec<u8>>, String> {
        if self.format != Format::Csv {
            return Ok(None);
        }
        let Some(line) = self.next_line()? else {
            return Err(format!("{} has no column names: it is empty", self.file));
        };
        self.columns = parse_csv_cells(&line).map_err(|reason| self.error(&reason))?;
        match columns {
            None => {
                *columns = Some(self.columns.clone());
                Ok(Some(line))
            }
            Some(columns) if *columns == self.columns => Ok(None),
            Some(columns) => Err(format!(
                "{} has the columns {}: expected {}, as in the first part",
                self.file,
                self.columns.join(","),
                columns.join(",")
            )),
        }
    }

    /// Reads the next record. Returns its bytes and its fields.
    fn next(&mut self) -> Result<Option<(Vec<u8>, Fields)>, String> {
        let Some(line) = self.next_line()? else { return Ok(None) };
        let fields = parse(&line, self.format, &self.columns).map_err(|reason| self.error(&reason))?;
        Ok(Some((line, fields)))
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        let status = self.reader.read(&mut line);
        self.line += 1;
        match status.map_err(|error| format!("cannot read {}: {error}", self.file))? {
            ReadStatus::Complete => Ok(Some(line)),
            ReadStatus::End => Ok(None),
            ReadStatus::TooLong(bytes) => {
                Err(self.error(&format!("line has {bytes} bytes: at most {MAX_RECORD_BYTES} allowed")))
            }
            ReadStatus::Unterminated => {
                Err(self.error("the last line is incomplete: use --resume to complete this part"))
            }
        }
    }
}

/// Compares records with those of the input.
struct InputCheck<S> {
    records: S,
    name: String,
    position: u64,
}

impl<S: Stream<Item = io::Result<Record>> + Unpin> InputCheck<S> {
    async fn read(&mut self) -> Result<Option<Record>, String> {
        let record = self.records.next().await.transpose();
        record.map_err(|error| format!("cannot read {}: {error}", self.name))
    }

    /// Checks the next record of a part.
    async fn next(&mut self, part: &PartFile<'_>, fields: &Fields) -> Result<(), String> {
        let Some(record) = self.read().await? else {
            return Err(part.error(&format!("{} has only {} records", self.name, self.position)));
        };
        self.position += 1;
        match check_identity(&record, fields) {
            Ok(()) => Ok(()),
            Err(BulkError::InputMismatch { position, field }) => {
                Err(part.error(&format!("another {field} than record {position} of {}", self.name)))
            }
            Err(error) => Err(part.error(&error.to_string())),
        }
    }

    /// Checks that the parts have all records.
    async fn end(mut self) -> Result<(), String> {
        let expected = self.position;
        while self.read().await?.is_some() {
            self.position += 1;
        }
        match self.position == expected {
            true => Ok(()),
            false => Err(format!(
                "the parts have {expected} records, and {} has {}: a part is missing or incomplete",
                self.name, self.position
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::{part::Part, record::render_csv_line};

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            fs::write(self.path(name), content).unwrap();
            self.path(name)
        }

        fn input(&self, name: &str) -> Option<MergeInput> {
            let file = Location::from(self.path(name));
            let format = Format::from_extension(&file).unwrap();
            Some(MergeInput { input: Input { file: Some(file), format }, name: name.to_owned() })
        }

        async fn merge(&self, parts: &[&str], input: Option<MergeInput>) -> Result<MergeSummary, String> {
            let parts: Vec<Location> = parts.iter().map(|part| self.path(part).into()).collect();
            let format = Format::from_extension(&parts[0]).unwrap();
            let merged = merge_records(&parts, format, &self.path("out"), input, || false).await;
            merged
                .map(Option::unwrap)
                .map_err(|error| error.replace(&format!("{}/", self.0.path().display()), ""))
        }

        /// Returns the error of a merge, which leaves no file.
        async fn error(&self, parts: &[&str], input: Option<MergeInput>) -> String {
            let error = self.merge(parts, input).await.unwrap_err();
            let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let new = |name: &std::ffi::OsString| name == "out" || name.to_string_lossy().starts_with(".");
            assert_eq!(names.filter(new).count(), 0);
            error
        }
    }

    #[tokio::test]
    async fn csv_parts_have_one_line_of_column_names() {
        let files = Files::new();
        files.write("0.csv", "id,image,caption,error\n1,a,\"two\nlines\",\n");
        files.write("1.csv", "id,image,caption,error\n2,b,,\"{}\"\n");
        let summary = files.merge(&["0.csv", "1.csv"], None).await.unwrap();
        assert_eq!(summary, MergeSummary { records: 2, failed: 1 });
        let merged = fs::read_to_string(files.path("out")).unwrap();
        assert_eq!(merged, "id,image,caption,error\n1,a,\"two\nlines\",\n2,b,,\"{}\"\n");
        files.write("2.csv", "id,caption\n");
        fs::remove_file(files.path("out")).unwrap();
        let error = files.error(&["0.csv", "2.csv"], None).await;
        assert_eq!(
            error,
            "2.csv has the columns id,caption: expected id,image,caption,error, as in the first part"
        );
        files.write("3.csv", "");
        let error = files.error(&["0.csv", "3.csv"], None).await;
        assert_eq!(error, "3.csv has no column names: it is empty");
    }

    #[tokio::test]
    async fn parts_that_are_not_those_of_the_input_are_errors() {
        let files = Files::new();
        files.write("in.jsonl", "{\"id\": 1, \"image\": \"a\"}\nnonsense\n{\"id\": 3, \"image\": \"c\"}\n");
        files.write(
            "0.jsonl",
            "{\"id\": 1, \"image\": \"a\", \"caption\": \"x\"}\n{\"error\": {}, \"line\": 2}\n",
        );
        files.write("1.jsonl", "{\"id\": 3, \"image\": \"c\", \"caption\": \"z\"}\n");
        let input = || files.input("in.jsonl");
        assert_eq!(
            files.error(&["0.jsonl"], input()).await,
            "the parts have 2 records, and in.jsonl has 3: a part is missing or incomplete"
        );
        assert_eq!(
            files.error(&["1.jsonl", "0.jsonl"], input()).await,
            "1.jsonl, line 1: another id than record 1 of in.jsonl"
        );
        assert_eq!(
            files.error(&["0.jsonl", "1.jsonl", "1.jsonl"], input()).await,
            "1.jsonl, line 1: in.jsonl has only 3 records"
        );
        assert!(files.error(&["0.jsonl", "2.jsonl"], input()).await.starts_with("cannot read 2.jsonl: "));
        let summary = files.merge(&["0.jsonl", "1.jsonl"], input()).await.unwrap();
        assert_eq!(summary, MergeSummary { records: 3, failed: 1 });
    }

    #[tokio::test]
    async fn stopped_merge_leaves_no_file() {
        let files = Files::new();
        let part = Location::from(files.write("0.jsonl", "{}\n{}\n"));
        let merged = merge_records(&[part], Format::Jsonl, &files.path("out"), None, || true).await;
        assert_eq!(merged, Ok(None));
        assert_eq!(fs::read_dir(files.0.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn permissions_are_those_of_other_files() {
        let files = Files::new();
        let part = files.write("0.jsonl", "{}\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        files.merge(&["0.jsonl"], None).await.unwrap();
        assert_eq!(mode(&files.path("out")), mode(&part));
        fs::set_permissions(files.path("out"), fs::Permissions::from_mode(0o600)).unwrap();
        files.merge(&["0.jsonl"], None).await.unwrap();
        assert_eq!(mode(&files.path("out")) & 0o777, 0o600);
    }

    #[tokio::test]
    async fn input_is_not_replaced() {
        let files = Files::new();
        files.write("0.jsonl", "{\"caption\": \"x\"}\n");
        let path = files.write("out", "{}\n");
        let input = MergeInput {
            input: Input { file: Some(path.clone().into()), format: Format::Jsonl },
            name: "in.jsonl".to_owned(),
        };
        let error = files.merge(&["0.jsonl"], Some(input)).await.unwrap_err();
        assert_eq!(error, "the output is the input in.jsonl");
        assert_eq!(fs::read_to_string(path).unwrap(), "{}\n");
    }

    #[tokio::test]
    async fn incomplete_and_invalid_lines_are_errors() {
        let files = Files::new();
        files.write("0.jsonl", "{}\n{\"id\":");
        assert_eq!(
            files.error(&["0.jsonl"], None).await,
            "0.jsonl, line 2: the last line is incomplete: use --resume to complete this part"
        );
        files.write("1.jsonl", "{}\n[]\n");
        assert_eq!(files.error(&["1.jsonl"], None).await, "1.jsonl, line 2: line is not a JSON object");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn parts_of_any_number_are_together_the_whole(
            texts in prop::collection::vec("[a-z\"\n, ]{0,9}", 0..20), count in 1_usize..6, is_csv: bool,
        ) {
            let files = Files::new();
            let line = |at: usize, text: &String| match is_csv {
                true => String::from_utf8(render_csv_line([at.to_string(), text.clone()])).unwrap(),
                false => format!("{}\n", serde_json::json!({ "id": at, "text": text })),
            };
            let (extension, head) = if is_csv { ("csv", "id,text\n") } else { ("jsonl", "") };
            let lines: Vec<String> = texts.iter().enumerate().map(|(at, text)| line(at, text)).collect();
            let whole = files.write(&format!("in.{extension}"), &format!("{head}{}", lines.concat()));
            let names: Vec<String> = (0..count).map(|index| format!("{index}.{extension}")).collect();
            for (index, name) in names.iter().enumerate() {
                let range = Part::new(index, count).unwrap().range(lines.len() as u64);
                let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
                files.write(name, &format!("{head}{}", lines[start..end].concat()));
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let input = files.input(&format!("in.{extension}"));
            let summary = runtime.block_on(files.merge(&names, input)).unwrap();
            prop_assert_eq!(summary.records, lines.len() as u64);
            prop_assert_eq!(fs::read(files.path("out")).unwrap(), fs::read(whole).unwrap());
        }
    }
}
