//! The lines that an earlier run wrote, read again so that those that failed can be asked again.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use crate::{
    Fields, Format, OutputError,
    record_reader::{Read, read_record},
    input::MAX_RECORD_BYTES,
    record::{cells, parse},
};

/// One line of an output.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// It has an answer: its bytes, line end included.
    Answered(Vec<u8>),
    /// It has an error: its bytes, and its values.
    Failed(Vec<u8>, Fields),
}

impl Line {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Answered(bytes) | Self::Failed(bytes, _) => bytes,
        }
    }
}

/// The whole lines of an output, in their order.
#[derive(Debug)]
pub(crate) struct Earlier {
    reader: BufReader<File>,
    format: Format,
    columns: Vec<String>,
}

impl Earlier {
    /// Opens an output that has these columns, if it is CSV.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub(crate) fn open(path: &Path, format: Format, columns: &[&'static str]) -> Result<Self, OutputError> {
        let file_error = |error| OutputError::File { path: path.to_owned(), error };
        let reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(file_error)?);
        let mut earlier = Self { reader, format, columns: Vec::new() };
        if format == Format::Csv
            && let Some(names) = earlier.record().map_err(file_error)?
        {
            earlier.columns = cells(&names).map_err(|cause| file_error(io::Error::other(cause)))?;
            OutputError::check_columns(path, &earlier.columns, columns)?;
        }
        Ok(earlier)
    }

    fn record(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = read_record(&mut self.reader, self.format, MAX_RECORD_BYTES, &mut bytes)?;
        // What is torn is not gone on with.
        Ok((read == Read::Record).then_some(bytes))
    }
}

impl Iterator for Earlier {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<io::Result<Line>> {
        let bytes = self.record().transpose()?;
        Some(bytes.map(|bytes| match parse(&bytes, self.format, &self.columns) {
            Ok(fields) if fields.get("error").is_some_and(|error| !error.is_null()) => {
                Line::Failed(bytes, fields)
            }
            _ => Line::Answered(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, format: Format, columns: &[&'static str]) -> Result<Vec<Line>, OutputError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        std::fs::write(&path, content).unwrap();
        Earlier::open(&path, format, columns).map(|lines| lines.map(Result::unwrap).collect())
    }

    #[test]
    fn a_line_has_failed_if_it_has_an_error_and_a_torn_one_is_none() {
        let lines = read(
            "{\"id\": 1, \"score\": -0.10}\n{\"id\": 2, \"error\": {}}\n{\"error\": null}\n{\"id\":",
            Format::Jsonl,
            &[],
        );
        let lines = lines.unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], Line::Answered(b"{\"id\": 1, \"score\": -0.10}\n".to_vec()));
        assert!(matches!(&lines[1], Line::Failed(_, fields) if fields["id"] == 2), "{:?}", lines[1]);
        assert!(matches!(lines[2], Line::Answered(_)));
    }

    #[test]
    fn of_csv_the_first_line_names_the_columns_and_they_have_to_be_the_same() {
        let content = "id,answer,error\n1,yes,\n2,,\"{\"\"reason\"\":\"\"NO\"\"}\"\n";
        let lines = read(content, Format::Csv, &["id", "answer", "error"]).unwrap();
        assert!(matches!(&lines[..], [Line::Answered(_), Line::Failed(..)]), "{lines:?}");
        let error = read(content, Format::Csv, &["id"]).unwrap_err();
        assert!(error.to_string().ends_with("its columns are id,answer,error, not id"), "{error}");
        assert_eq!(read("", Format::Csv, &["id"]).unwrap(), []);
    }
}
