//! Records into a file or standard output, so that a run that was cut off can go on.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{
    Fields, Format,
    record_reader::{Read, read_record},
    input::MAX_RECORD_BYTES,
    record::{cells, csv_line, parse, written},
};

/// What to do with a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone, which is an error.
    Refuse,
    /// Go on behind its last whole record.
    Resume,
    /// Begin anew.
    Replace,
}

/// Why an output cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// It is there, and nobody said what to do with it.
    #[error("{} exists: go on with it by --resume, or begin anew by --force", .0.display())]
    Exists(PathBuf),
    /// It was written with other columns.
    #[error("{} cannot be resumed: its columns are {found}, not {wanted}", .path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// What its first line says.
        found: String,
        /// What it would have to say.
        wanted: String,
    },
    /// The operating system's.
    #[error("cannot write {}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl OutputError {
    /// Refuses to go on with a file of other columns.
    pub(crate) fn check_columns(path: &Path, found: &[String], wanted: &[&str]) -> Result<(), Self> {
        if found == wanted {
            return Ok(());
        }
        Err(Self::Columns { path: path.to_owned(), found: found.join(","), wanted: wanted.join(",") })
    }
}

/// Where records go.
pub struct Output {
    sink: Box<dyn Write + Send>,
    format: Format,
    columns: Vec<&'static str>,
    resumed: Resumed,
}

/// What was there already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resumed {
    /// Whole records.
    pub records: u64,
    /// The last of them.
    pub last: Option<Fields>,
    /// Bytes up to the end of it.
    bytes: u64,
    /// The first line of a CSV file.
    columns: Option<Vec<String>>,
}

impl Output {
    /// Opens a file, standard output if `path` is `None`. `columns` are those of CSV.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub fn open(
        path: Option<&Path>,
        format: Format,
        columns: &[&'static str],
        existing: Existing,
    ) -> Result<Self, OutputError> {
        let mut output = Self {
            sink: Box::new(io::stdout()),
            format,
            columns: columns.to_vec(),
            resumed: Resumed::default(),
        };
        let file_error = |error| OutputError::File { path: path.unwrap_or(Path::new("-")).to_owned(), error };
        if let Some(path) = path {
            let mut options = OpenOptions::new();
            options.write(true).read(true);
            match existing {
                Existing::Refuse => options.create_new(true),
                Existing::Resume => options.create(true),
                Existing::Replace => options.create(true).truncate(true),
            };
            let mut file = options.open(path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => OutputError::Exists(path.to_owned()),
                _ => file_error(error),
            })?;
            if existing == Existing::Resume {
                output.resumed = go_on(&mut file, format).map_err(file_error)?;
                if let Some(found) = &output.resumed.columns {
                    OutputError::check_columns(path, found, columns)?;
                }
            }
            output.sink = Box::new(file);
        }
        if format == Format::Csv && output.resumed.columns.is_none() {
            output.sink.write_all(&csv_line(columns)).map_err(file_error)?;
        }
        Ok(output)
    }

    /// What was there already: the first records of the input are answered.
    #[must_use]
    pub fn resumed(&self) -> &Resumed {
        &self.resumed
    }

    /// Writes one record at once: what is written stays, whatever becomes of this process.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write(&mut self, fields: &Fields) -> io::Result<()> {
        self.copy(&written(fields, self.format, &self.columns))
    }

    /// Writes the bytes of a record, line end included, as they were written before.
    ///
    /// # Errors
    /// The operating system's.
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
            .field("resumed", &self.resumed)
            .finish()
    }
}

/// Counts the whole records of `file`, cuts off what is torn behind them, and stands there.
fn go_on(file: &mut File, format: Format) -> io::Result<Resumed> {
    let mut reader = BufReader::with_capacity(1 << 16, &*file);
    let (mut resumed, mut bytes, mut last) = (Resumed::default(), Vec::new(), Vec::new());
    while let Read::Record = read_record(&mut reader, format, MAX_RECORD_BYTES, &mut bytes)? {
        resumed.bytes += bytes.len() as u64;
        if format == Format::Csv && resumed.columns.is_none() {
            resumed.columns = Some(cells(&bytes).map_err(io::Error::other)?);
        } else {
            resumed.records += 1;
            std::mem::swap(&mut last, &mut bytes);
        }
    }
    if resumed.records > 0 {
        let columns = resumed.columns.as_deref().unwrap_or_default();
        resumed.last = Some(parse(&last, format, columns).map_err(io::Error::other)?);
    }
    file.set_len(resumed.bytes)?;
    file.seek(SeekFrom::Start(resumed.bytes))?;
    Ok(resumed)
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

    fn whole(path: &Path, format: Format) -> Vec<u8> {
        let mut output = Output::open(Some(path), format, &COLUMNS, Existing::Replace).unwrap();
        (0..5).for_each(|id| output.write(&fields(id)).unwrap());
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_file_that_is_there_is_left_alone_unless_something_else_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let bytes = whole(&path, Format::Jsonl);
        let error = Output::open(Some(&path), Format::Jsonl, &COLUMNS, Existing::Refuse).unwrap_err();
        assert!(error.to_string().contains("--resume") && error.to_string().contains("--force"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        Output::open(Some(&path), Format::Jsonl, &COLUMNS, Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn other_columns_are_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        whole(&path, Format::Csv);
        let error = Output::open(Some(&path), Format::Csv, &["id"], Existing::Resume).unwrap_err();
        assert!(error.to_string().ends_with("its columns are id,answer, not id"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_that_was_cut_off_anywhere_is_gone_on_with_to_the_same_end(share in 0.0_f64..=1.0, csv: bool) {
            let format = if csv { Format::Csv } else { Format::Jsonl };
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            let bytes = whole(&path, format);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of few bytes")]
            let cut = (bytes.len() as f64 * share) as usize;
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut output = Output::open(Some(&path), format, &COLUMNS, Existing::Resume).unwrap();
            let done = output.resumed().records;
            prop_assert_eq!(output.resumed().last.clone(), done.checked_sub(1).map(fields));
            (done..5).for_each(|id| output.write(&fields(id)).unwrap());
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
