//! Reads the lines of a previous output, so that its failed lines can be retried.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use crate::{
    format::Format,
    output::OutputError,
    record::{Fields, parse, parse_csv_cells},
    record_reader::{MAX_RECORD_BYTES, ReadStatus, RecordReader},
};

/// A line of a previous output.
#[derive(Debug, PartialEq)]
pub(crate) enum OutputLine {
    /// A line without an error: its bytes, line end included.
    Answered(Vec<u8>),
    /// A line with an error: its bytes and its fields.
    Failed(Vec<u8>, Fields),
}

impl OutputLine {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Answered(bytes) | Self::Failed(bytes, _) => bytes,
        }
    }
}

/// An iterator over the complete lines of a previous output.
#[derive(Debug)]
pub(crate) struct PreviousOutput {
    reader: RecordReader<BufReader<File>>,
    format: Format,
    columns: Vec<String>,
}

impl PreviousOutput {
    /// Opens an output. A CSV file must have these columns.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub(crate) fn open(path: &Path, format: Format, columns: &[&'static str]) -> Result<Self, OutputError> {
        let file_error = |error| OutputError::File { path: path.to_owned(), error };
        let reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(file_error)?);
        let reader = RecordReader::new(reader, format, MAX_RECORD_BYTES);
        let mut output = Self { reader, format, columns: Vec::new() };
        if format == Format::Csv
            && let Some(header) = output.read_complete().map_err(file_error)?
        {
            output.columns = parse_csv_cells(&header).map_err(|cause| file_error(io::Error::other(cause)))?;
            OutputError::check_columns(path, &output.columns, columns)?;
        }
        Ok(output)
    }

    /// Reads the next line. An incomplete line counts as the end of the file.
    fn read_complete(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let status = self.reader.read(&mut bytes)?;
        Ok((status == ReadStatus::Complete).then_some(bytes))
    }
}

impl Iterator for PreviousOutput {
    type Item = io::Result<OutputLine>;

    fn next(&mut self) -> Option<io::Result<OutputLine>> {
        let bytes = self.read_complete().transpose()?;
        Some(bytes.map(|bytes| match parse(&bytes, self.format, &self.columns) {
            Ok(fields) if fields.get("error").is_some_and(|error| !error.is_null()) => {
                OutputLine::Failed(bytes, fields)
            }
            _ => OutputLine::Answered(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, format: Format, columns: &[&'static str]) -> Result<Vec<OutputLine>, OutputError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        std::fs::write(&path, content).unwrap();
        PreviousOutput::open(&path, format, columns).map(|lines| lines.map(Result::unwrap).collect())
    }

    #[test]
    fn line_with_error_is_failed_and_incomplete_line_ignored() {
        let lines = read(
            "{\"id\": 1, \"score\": -0.10}\n{\"id\": 2, \"error\": {}}\n{\"error\": null}\n{\"id\":",
            Format::Jsonl,
            &[],
        );
        let lines = lines.unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], OutputLine::Answered(b"{\"id\": 1, \"score\": -0.10}\n".to_vec()));
        assert!(matches!(&lines[1], OutputLine::Failed(_, fields) if fields["id"] == 2), "{:?}", lines[1]);
        assert!(matches!(lines[2], OutputLine::Answered(_)));
    }

    #[test]
    fn csv_columns_must_match() {
        let content = "id,answer,error\n1,yes,\n2,,\"{\"\"reason\"\":\"\"NO\"\"}\"\n";
        let lines = read(content, Format::Csv, &["id", "answer", "error"]).unwrap();
        assert!(matches!(&lines[..], [OutputLine::Answered(_), OutputLine::Failed(..)]), "{lines:?}");
        let error = read(content, Format::Csv, &["id"]).unwrap_err();
        assert!(error.to_string().ends_with("columns are id,answer,error, expected id"), "{error}");
        assert_eq!(read("", Format::Csv, &["id"]).unwrap(), []);
    }
}
