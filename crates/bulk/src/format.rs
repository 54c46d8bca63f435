//! File formats of records.

use std::{path::Path, str::FromStr};

use crate::storage::Location;

/// A file format of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values (RFC 4180) after a line of column names.
    Csv,
}

impl Format {
    /// Returns the format that the extension of a file name stands for, or `None` if it is unknown.
    #[must_use]
    pub fn from_extension(file: &Location) -> Option<Self> {
        Path::new(file.name()).extension()?.to_str()?.to_ascii_lowercase().parse().ok()
    }

    /// Returns whether a line end between quotes belongs to the record.
    pub(crate) fn has_quotes(self) -> bool {
        self == Self::Csv
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            other => Err(format!("unknown format {other:?}: must be jsonl or csv")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_extension_selects_format() {
        let format = |name: &str| Format::from_extension(&Location::from(Path::new(name)));
        assert_eq!(format("a/b.JSONL"), Some(Format::Jsonl));
        assert_eq!(format("https://host/b.ndjson?sig=a.csv"), Some(Format::Jsonl));
        assert_eq!(format("b.csv"), Some(Format::Csv));
        assert_eq!(format("b.txt"), None);
        assert_eq!(format("-"), None);
    }
}
