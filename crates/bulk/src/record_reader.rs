//! Splits a stream of bytes into records.

use std::io::{self, BufRead};

use crate::format::Format;

/// Maximum length of a record, in bytes. A record can hold an image in a data URL.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 20;

/// The result of [`RecordReader::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadStatus {
    /// A record with its line end.
    Complete,
    /// A record of this many bytes, which exceeds the maximum. The reader skipped it.
    TooLong(u64),
    /// A last record without a line end, perhaps because its writer was interrupted.
    Unterminated,
    /// The end of the stream.
    End,
}

/// Reads records from a stream of bytes.
#[derive(Debug)]
pub(crate) struct RecordReader<R> {
    reader: R,
    format: Format,
    max_bytes: usize,
}

impl<R: BufRead> RecordReader<R> {
    /// Creates a reader that skips records of more than `max_bytes` bytes.
    pub(crate) fn new(reader: R, format: Format, max_bytes: usize) -> Self {
        Self { reader, format, max_bytes }
    }

    /// Reads the next record into `record`, which is cleared first.
    pub(crate) fn read(&mut self, record: &mut Vec<u8>) -> io::Result<ReadStatus> {
        record.clear();
        let max_bytes = self.max_bytes as u64;
        let (mut bytes, mut is_quoted) = (0_u64, false);
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                return Ok(match bytes {
                    0 => ReadStatus::End,
                    bytes if bytes > max_bytes => ReadStatus::TooLong(bytes),
                    _ => ReadStatus::Unterminated,
                });
            }
            let end = find_record_end(buffer, self.format, &mut is_quoted);
            let consumed = end.unwrap_or(buffer.len());
            bytes += consumed as u64;
            if bytes <= max_bytes {
                record.extend_from_slice(buffer.get(..consumed).unwrap_or_default());
            }
            self.reader.consume(consumed);
            if end.is_some() {
                return Ok(if bytes > max_bytes { ReadStatus::TooLong(bytes) } else { ReadStatus::Complete });
            }
        }
    }
}

/// Returns the number of bytes up to the end of the current record, if `buffer` holds its end.
///
/// `is_quoted` says whether the buffer begins between quotes. The function updates it.
fn find_record_end(buffer: &[u8], format: Format, is_quoted: &mut bool) -> Option<usize> {
    if !format.has_quotes() {
        return memchr::memchr(b'\n', buffer).map(|at| at + 1);
    }
    for at in memchr::memchr2_iter(b'\n', b'"', buffer) {
        // An escaped quote is two quotes. They switch the state twice, so it stays the same.
        if buffer.get(at) == Some(&b'"') {
            *is_quoted = !*is_quoted;
        } else if !*is_quoted {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn read_all(
        bytes: &[u8],
        format: Format,
        max_bytes: usize,
        buffer_len: usize,
    ) -> Vec<(ReadStatus, Vec<u8>)> {
        let reader = BufReader::with_capacity(buffer_len, bytes);
        let mut reader = RecordReader::new(reader, format, max_bytes);
        let (mut records, mut record) = (Vec::new(), Vec::new());
        loop {
            match reader.read(&mut record).unwrap() {
                ReadStatus::End => return records,
                status => records.push((status, record.clone())),
            }
        }
    }

    #[test]
    fn quoted_line_end_belongs_to_csv_record_only() {
        let bytes = b"a,\"b \"\"c\nd\"\ne,f\n";
        let records = read_all(bytes, Format::Csv, 100, 100);
        let expected =
            [(ReadStatus::Complete, bytes[..12].to_vec()), (ReadStatus::Complete, b"e,f\n".to_vec())];
        assert_eq!(records, expected);
        assert_eq!(read_all(bytes, Format::Jsonl, 100, 100).len(), 3);
    }

    #[test]
    fn last_record_without_line_end_is_unterminated() {
        assert_eq!(
            read_all(b"a\nb", Format::Jsonl, 9, 9),
            [(ReadStatus::Complete, b"a\n".to_vec()), (ReadStatus::Unterminated, b"b".to_vec())]
        );
        assert_eq!(read_all(b"a\n\"b\n", Format::Csv, 9, 9)[1].0, ReadStatus::Unterminated);
    }

    #[test]
    fn too_long_record_is_skipped() {
        let records = read_all(b"12345678\nb\n", Format::Jsonl, 5, 3);
        assert_eq!(records[0].0, ReadStatus::TooLong(9));
        assert_eq!(records[1], (ReadStatus::Complete, b"b\n".to_vec()));
    }

    proptest! {
        #[test]
        fn records_do_not_depend_on_buffer_length(text in "[ab\",\n]{0,60}", buffer_len in 1_usize..20) {
            for format in [Format::Jsonl, Format::Csv] {
                prop_assert_eq!(
                    read_all(text.as_bytes(), format, 1000, buffer_len),
                    read_all(text.as_bytes(), format, 1000, 1000)
                );
            }
        }
    }
}
