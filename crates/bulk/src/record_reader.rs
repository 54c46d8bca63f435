//! Where one record ends and the next begins, in a stream of bytes.

use std::io::{self, BufRead};

use crate::Format;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A record, with its line end.
    Record,
    /// A record of so many bytes, more than there is room for: it was passed over.
    TooLong(u64),
    /// What is behind the last line end: a record whose writer was cut off, or one that ends with the file.
    Torn,
    /// Nothing more.
    End,
}

/// Reads the next record of `reader` into `record`, which holds `room` bytes at most.
pub(crate) fn read_record(
    reader: &mut impl BufRead,
    format: Format,
    room: usize,
    record: &mut Vec<u8>,
) -> io::Result<Read> {
    record.clear();
    let (mut bytes, mut quoted) = (0_u64, false);
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(match bytes {
                0 => Read::End,
                bytes if bytes > room as u64 => Read::TooLong(bytes),
                _ => Read::Torn,
            });
        }
        let end = end_of_record(buffer, format, &mut quoted);
        let taken = end.unwrap_or(buffer.len());
        bytes += taken as u64;
        if bytes <= room as u64 {
            record.extend_from_slice(buffer.get(..taken).unwrap_or_default());
        }
        reader.consume(taken);
        if end.is_some() {
            return Ok(if bytes > room as u64 { Read::TooLong(bytes) } else { Read::Record });
        }
    }
}

/// Bytes of `buffer` up to the end of the record that `quoted` is the state of.
fn end_of_record(buffer: &[u8], format: Format, quoted: &mut bool) -> Option<usize> {
    if !format.has_quotes() {
        return memchr::memchr(b'\n', buffer).map(|at| at + 1);
    }
    for at in memchr::memchr2_iter(b'\n', b'"', buffer) {
        // A quote within quotes is written twice, which changes the state there and back.
        if buffer.get(at) == Some(&b'"') {
            *quoted = !*quoted;
        } else if !*quoted {
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

    fn all(bytes: &[u8], format: Format, room: usize, buffer: usize) -> Vec<(Read, Vec<u8>)> {
        let mut reader = BufReader::with_capacity(buffer, bytes);
        let (mut found, mut record) = (Vec::new(), Vec::new());
        loop {
            match read_record(&mut reader, format, room, &mut record).unwrap() {
                Read::End => return found,
                read => found.push((read, record.clone())),
            }
        }
    }

    #[test]
    fn a_line_end_within_quotes_belongs_to_a_csv_record_and_not_to_a_json_one() {
        let bytes = b"a,\"b \"\"c\nd\"\ne,f\n";
        let records = all(bytes, Format::Csv, 100, 100);
        assert_eq!(records, [(Read::Record, bytes[..12].to_vec()), (Read::Record, b"e,f\n".to_vec())]);
        assert_eq!(all(bytes, Format::Jsonl, 100, 100).len(), 3);
    }

    #[test]
    fn what_is_behind_the_last_line_end_is_torn() {
        assert_eq!(
            all(b"a\nb", Format::Jsonl, 9, 9),
            [(Read::Record, b"a\n".to_vec()), (Read::Torn, b"b".to_vec())]
        );
        assert_eq!(all(b"a\n\"b\n", Format::Csv, 9, 9)[1].0, Read::Torn);
    }

    #[test]
    fn a_record_that_is_too_long_is_passed_over_and_the_next_one_is_read() {
        let records = all(b"12345678\nb\n", Format::Jsonl, 5, 3);
        assert_eq!(records[0].0, Read::TooLong(9));
        assert_eq!(records[1], (Read::Record, b"b\n".to_vec()));
    }

    proptest! {
        #[test]
        fn records_are_the_same_however_the_bytes_come(text in "[ab\",\n]{0,60}", buffer in 1_usize..20) {
            for format in [Format::Jsonl, Format::Csv] {
                prop_assert_eq!(all(text.as_bytes(), format, 1000, buffer), all(text.as_bytes(), format, 1000, 1000));
            }
        }
    }
}
