//! Reads records from a file or from standard input, one bounded buffer ahead.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
};

use futures::{Stream, stream};
use tokio::sync::mpsc;

use crate::{
    format::Format,
    record::{Record, parse, parse_csv_cells},
    record_reader::{MAX_RECORD_BYTES, ReadStatus, RecordReader},
};

/// Number of records that are read ahead.
const READ_AHEAD: usize = 64;

/// A source of records.
#[derive(Clone, Debug)]
pub struct Input {
    /// The file, or `None` for standard input.
    pub path: Option<PathBuf>,
    /// The format of its records.
    pub format: Format,
}

impl Input {
    /// Returns the number of records in a regular file, or `None` for other inputs.
    ///
    /// The function reads the whole file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn count(&self) -> io::Result<Option<u64>> {
        let Some(path) = self.path.as_ref().filter(|path| path.is_file()) else { return Ok(None) };
        let reader = BufReader::with_capacity(1 << 16, File::open(path)?);
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
        let reader: Box<dyn BufRead + Send> = match &self.path {
            Some(path) => Box::new(BufReader::with_capacity(1 << 16, File::open(path)?)),
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

/// Sends all records of `reader` until the receiver is dropped.
fn send_records(reader: impl BufRead, format: Format, sender: &mpsc::Sender<io::Result<Record>>) {
    let mut reader = RecordReader::new(reader, format, MAX_RECORD_BYTES);
    let (mut bytes, mut columns, mut position) = (Vec::new(), None, 0);
    loop {
        let fields = match reader.read(&mut bytes) {
            Ok(ReadStatus::End) => return,
            Ok(ReadStatus::TooLong(length)) => {
                Err(format!("line has {length} bytes: at most {MAX_RECORD_BYTES} allowed"))
            }
            Ok(ReadStatus::Complete | ReadStatus::Unterminated)
                if format == Format::Csv && columns.is_none() =>
            {
                columns = Some(parse_csv_cells(strip_byte_order_mark(&bytes)).unwrap_or_default());
                continue;
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
        let input = Input { path: Some(path), format };
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
