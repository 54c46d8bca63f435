//! Reads records from a file, an object or standard input, one bounded buffer ahead.

use std::io::{self, BufRead, BufReader};

use futures::{Stream, stream};
use tokio::sync::mpsc;

use crate::{
    format::Format,
    record::{Record, parse, parse_csv_cells},
    record_reader::{MAX_RECORD_BYTES, ReadStatus, RecordReader},
    storage::{FileStream, Location, StoredFile},
};

/// Number of records that are read ahead.
const READ_AHEAD: usize = 64;

/// A source of records.
#[derive(Clone, Debug)]
pub struct Input {
    /// The file or object, or `None` for standard input.
    pub file: Option<Location>,
    /// The format of its records.
    pub format: Format,
}

impl Input {
    /// Returns the number of records in a regular file or an object, or `None` for other inputs.
    ///
    /// The function reads the whole file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn count(&self) -> io::Result<Option<u64>> {
        let is_counted = |file: &&Location| file.path().is_none_or(|path| path.is_file());
        let Some(file) = self.file.as_ref().filter(is_counted) else { return Ok(None) };
        let reader = open(file)?;
        // No record is stored, so the maximum length is 0.
        let mut reader = RecordReader::new(reader, self.format, 0);
        let (mut count, mut record) = (0, Vec::new());
        loop {
            match reader.read(&mut record)? {
                ReadStatus::End => break,
                _ => count += 1,
            }
        }
        let header_lines = u64::from(self.format == Format::Csv);
        Ok(Some(count - header_lines.min(count)))
    }

    /// Returns a stream of the records. Reading blocks while the buffer is full.
    ///
    /// An invalid record becomes a [`Record`] with an error. An I/O error ends the stream.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn records(&self) -> io::Result<impl Stream<Item = io::Result<Record>> + Send + Unpin + use<>> {
        let reader: Box<dyn BufRead + Send> = match &self.file {
            Some(file) => Box::new(open(file)?),
            None => Box::new(BufReader::new(io::stdin())),
        };
        let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
        let format = self.format;
        // A dedicated thread, because reading standard input can block forever.
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || send_records(reader, format, &sender))?;
        Ok(stream::poll_fn(move |context| receiver.poll_recv(context)))
    }
}

fn open(file: &Location) -> io::Result<BufReader<FileStream>> {
    Ok(BufReader::with_capacity(1 << 16, StoredFile::open(file)?.into_stream()?))
}

/// Sends all records of `reader` until the receiver is dropped.
fn send_records(reader: impl BufRead, format: Format, sender: &mpsc::Sender<io::Result<Record>>) {
    let mut reader = RecordReader::new(reader, format, MAX_RECORD_BYTES);
    let (mut bytes, mut columns, mut position) = (Vec::new(), None, 0);
    loop {
        let read = reader.read(&mut bytes);
        if format == Format::Csv && columns.is_none() {
            match read.and_then(|status| read_columns(status, &bytes)) {
                Ok(Some(names)) => columns = Some(names),
                Ok(None) => return,
                Err(error) => return drop(sender.blocking_send(Err(error))),
            }
            continue;
        }
        let fields = match read {
            Ok(ReadStatus::End) => return,
            Ok(ReadStatus::TooLong(length)) => {
                Err(format!("line has {length} bytes: at most {MAX_RECORD_BYTES} allowed"))
            }
            Ok(ReadStatus::Complete | ReadStatus::Unterminated) => {
                let bytes = if position == 0 { strip_byte_order_mark(&bytes) } else { &bytes };
                parse(bytes, format, columns.as_deref().unwrap_or_default())
            }
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        if sender.blocking_send(Ok(Record { position, fields })).is_err() {
            return;
        }
        position += 1;
    }
}

/// Returns the column names in the first line of a CSV file, or `None` if the file is empty.
fn read_columns(status: ReadStatus, line: &[u8]) -> io::Result<Option<Vec<String>>> {
    let invalid = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    match status {
        ReadStatus::End => return Ok(None),
        ReadStatus::TooLong(length) => {
            return invalid(format!("the first line has {length} bytes: at most {MAX_RECORD_BYTES} allowed"));
        }
        ReadStatus::Complete | ReadStatus::Unterminated => {}
    }
    // A spreadsheet program calls this "CSV (Unicode)".
    if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") {
        return invalid("the text is UTF-16: expected UTF-8".to_owned());
    }
    let line = strip_byte_order_mark(line);
    // Old programs for the Macintosh end lines so. The whole file would be one line.
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.contains(&b'\r') {
        return invalid("lines end with CR alone: expected LF or CR LF".to_owned());
    }
    parse_csv_cells(line).map(Some).or_else(|error| invalid(format!("column names: {error}")))
}

/// Removes the byte order mark that spreadsheet programs write at the beginning of a file.
fn strip_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use serde_json::json;

    use super::*;

    async fn read(text: &str, format: Format) -> (Option<u64>, Vec<Record>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        std::fs::write(&path, text).unwrap();
        let input = Input { file: Some(path.into()), format };
        let records = input.records().unwrap().map(Result::unwrap).collect().await;
        (input.count().unwrap(), records)
    }

    #[tokio::test]
    async fn invalid_line_is_a_record_with_an_error() {
        let (count, records) = read("\u{feff}{\"id\": 1}\nnonsense\n{\"id\": 3}", Format::Jsonl).await;
        assert_eq!((count, records.len()), (Some(3), 3));
        assert_eq!(records[0].fields.as_ref().unwrap()["id"], json!(1));
        assert!(records[1].fields.is_err());
        assert_eq!((records[2].position, records[2].fields.as_ref().unwrap()["id"].clone()), (2, json!(3)));
    }

    #[tokio::test]
    async fn first_csv_line_names_columns() {
        let (count, records) = read("id,image\n1,\"a,b.png\"\n2,c.png\n", Format::Csv).await;
        assert_eq!((count, records.len()), (Some(2), 2));
        assert_eq!(records[0].fields.as_ref().unwrap()["image"], json!("a,b.png"));
        assert_eq!(records[1].position, 1);
        assert_eq!(read("", Format::Csv).await, (Some(0), vec![]));
        let (_, records) = read("id,image\r\n1,a.png\r\n", Format::Csv).await;
        assert_eq!(records[0].fields.as_ref().unwrap()["image"], json!("a.png"));
    }

    #[test]
    fn unreadable_column_names_are_an_error() {
        let first = |bytes: &[u8]| {
            let (sender, mut receiver) = mpsc::channel(8);
            send_records(bytes, Format::Csv, &sender);
            receiver.try_recv().unwrap().unwrap_err().to_string()
        };
        assert_eq!(first(b"id,image\r1,a.png\r"), "lines end with CR alone: expected LF or CR LF");
        assert_eq!(first(b"id,image\r1,a.png"), "lines end with CR alone: expected LF or CR LF");
        assert_eq!(first(b"\xff\xfei\0d\0\r\0\n\0"), "the text is UTF-16: expected UTF-8");
        assert!(first(b"id,\xff\n").starts_with("column names: line is not valid CSV"));
    }

    #[test]
    fn reading_stops_when_receiver_is_dropped() {
        let lines = "{}\n".repeat(10 * READ_AHEAD);
        let mut bytes = lines.as_bytes();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        send_records(&mut bytes, Format::Jsonl, &sender);
        assert_eq!(bytes.len(), lines.len() - 3);
    }
}
