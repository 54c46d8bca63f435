//! Writes records to a file or to standard output, in a way that a later run can resume.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{
    format::Format,
    record::{Fields, parse, parse_csv_cells, render, render_csv_line},
    record_reader::{MAX_RECORD_BYTES, ReadStatus, RecordReader},
};

/// What to do if the output file exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingFile {
    /// Return an error and leave the file unchanged.
    Refuse,
    /// Continue after its last complete record.
    Resume,
    /// Process its failed records again, then continue it.
    RetryFailed,
    /// Replace its content.
    Replace,
}

/// An output that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file exists, and [`ExistingFile::Refuse`] applies.
    #[error("{} already exists: use --resume to continue it or --force to replace it", .0.display())]
    Exists(PathBuf),
    /// The file has other columns.
    #[error("cannot resume {}: columns are {actual}, expected {expected}", .path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// The columns in its first line.
        actual: String,
        /// The columns of this run.
        expected: String,
    },
    /// The file cannot be read or written.
    #[error("cannot write {}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}

impl OutputError {
    /// Returns an error if the columns of a file differ from those of this run.
    pub(crate) fn check_columns(path: &Path, actual: &[String], expected: &[&str]) -> Result<(), Self> {
        if actual == expected {
            return Ok(());
        }
        Err(Self::Columns { path: path.to_owned(), actual: actual.join(","), expected: expected.join(",") })
    }
}

/// A destination of records.
pub struct Output {
    sink: Box<dyn Write + Send>,
    format: Format,
    columns: Vec<&'static str>,
    resume_point: ResumePoint,
}

/// The complete records that an output held when it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResumePoint {
    /// The number of complete records.
    pub records: u64,
    /// The last complete record.
    pub last: Option<Fields>,
    /// The number of bytes up to the end of the last complete record.
    bytes: u64,
    /// The first line of a CSV file.
    columns: Option<Vec<String>>,
}

impl Output {
    /// Opens a file, or standard output if `path` is `None`.
    ///
    /// `columns` are the columns of a CSV output.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub fn open(
        path: Option<&Path>,
        format: Format,
        columns: &[&'static str],
        existing: ExistingFile,
    ) -> Result<Self, OutputError> {
        let mut output = Self {
            sink: Box::new(io::stdout()),
            format,
            columns: columns.to_vec(),
            resume_point: ResumePoint::default(),
        };
        let file_error = |error| OutputError::File { path: path.unwrap_or(Path::new("-")).to_owned(), error };
        if let Some(path) = path {
            let mut options = OpenOptions::new();
            options.write(true).read(true);
            match existing {
                ExistingFile::Refuse => options.create_new(true),
                ExistingFile::Resume | ExistingFile::RetryFailed => options.create(true),
                ExistingFile::Replace => options.create(true).truncate(true),
            };
            let mut file = options.open(path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => OutputError::Exists(path.to_owned()),
                _ => file_error(error),
            })?;
            if matches!(existing, ExistingFile::Resume | ExistingFile::RetryFailed) {
                output.resume_point = find_resume_point(&mut file, format).map_err(file_error)?;
                if let Some(actual) = &output.resume_point.columns {
                    OutputError::check_columns(path, actual, columns)?;
                }
            }
            output.sink = Box::new(file);
        }
        if format == Format::Csv && output.resume_point.columns.is_none() {
            output.sink.write_all(&render_csv_line(columns)).map_err(file_error)?;
        }
        Ok(output)
    }

    /// Returns the records that the output already held. They belong to the first records of the
    /// input.
    #[must_use]
    pub fn resume_point(&self) -> &ResumePoint {
        &self.resume_point
    }

    /// Writes and flushes one record, so that it survives the end of this process.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn write(&mut self, fields: &Fields) -> io::Result<()> {
        self.copy(&render(fields, self.format, &self.columns))
    }

    /// Writes and flushes the bytes of a rendered record, line end included.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(crate) fn copy(&mut self, record: &[u8]) -> io::Result<()> {
        self.sink.write_all(record)?;
        self.sink.flush()
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Output")
            .field("format", &self.format)
            .field("resume_point", &self.resume_point)
            .finish()
    }
}

/// Counts the complete records of `file`, removes an incomplete one at its end, and seeks to the
/// end.
fn find_resume_point(file: &mut File, format: Format) -> io::Result<ResumePoint> {
    let reader = BufReader::with_capacity(1 << 16, &*file);
    let mut reader = RecordReader::new(reader, format, MAX_RECORD_BYTES);
    let (mut resume_point, mut bytes, mut last) = (ResumePoint::default(), Vec::new(), Vec::new());
    while let ReadStatus::Complete = reader.read(&mut bytes)? {
        resume_point.bytes += bytes.len() as u64;
        if format == Format::Csv && resume_point.columns.is_none() {
            resume_point.columns = Some(parse_csv_cells(&bytes).map_err(io::Error::other)?);
        } else {
            resume_point.records += 1;
            std::mem::swap(&mut last, &mut bytes);
        }
    }
    if resume_point.records > 0 {
        let columns = resume_point.columns.as_deref().unwrap_or_default();
        resume_point.last = Some(parse(&last, format, columns).map_err(io::Error::other)?);
    }
    file.set_len(resume_point.bytes)?;
    file.seek(SeekFrom::Start(resume_point.bytes))?;
    Ok(resume_point)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const COLUMNS: [&str; 2] = ["id", "answer"];

    fn fields(id: u64) -> Fields {
        let Value::Object(fields) = json!({"id": id.to_string(), "answer": format!("line\n\"{id}\"")}) else {
            unreachable!()
        };
        fields
    }

    /// Writes five records and returns the content of the file.
    fn write_complete_file(path: &Path, format: Format) -> Vec<u8> {
        let mut output = Output::open(Some(path), format, &COLUMNS, ExistingFile::Replace).unwrap();
        (0..5).for_each(|id| output.write(&fields(id)).unwrap());
        std::fs::read(path).unwrap()
    }

    #[test]
    fn existing_file_is_refused_by_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let bytes = write_complete_file(&path, Format::Jsonl);
        let error = Output::open(Some(&path), Format::Jsonl, &COLUMNS, ExistingFile::Refuse).unwrap_err();
        assert!(error.to_string().contains("--resume") && error.to_string().contains("--force"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        Output::open(Some(&path), Format::Jsonl, &COLUMNS, ExistingFile::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn file_with_other_columns_is_not_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        write_complete_file(&path, Format::Csv);
        let error = Output::open(Some(&path), Format::Csv, &["id"], ExistingFile::Resume).unwrap_err();
        assert!(error.to_string().ends_with("columns are id,answer, expected id"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn truncated_file_is_resumed_to_same_content(share in 0.0_f64..=1.0, csv: bool) {
            let format = if csv { Format::Csv } else { Format::Jsonl };
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            let bytes = write_complete_file(&path, format);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of few bytes")]
            let cut = (bytes.len() as f64 * share) as usize;
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut output = Output::open(Some(&path), format, &COLUMNS, ExistingFile::Resume).unwrap();
            let done = output.resume_point().records;
            prop_assert_eq!(output.resume_point().last.clone(), done.checked_sub(1).map(fields));
            (done..5).for_each(|id| output.write(&fields(id)).unwrap());
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
