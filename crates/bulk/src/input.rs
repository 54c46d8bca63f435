//! Records out of a file or standard input, read as there is room for them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
};

use futures::{Stream, stream};
use tokio::sync::mpsc;

use crate::{
    Format, Record,
    record_reader::{Read, read_record},
    record::{cells, parse},
};

/// Longest record, in bytes: one that spells out an image in a data URL is long.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// Records that are read ahead.
const AHEAD: usize = 64;

/// Where records come from.
#[derive(Clone, Debug)]
pub struct Input {
    /// The file; standard input if `None`.
    pub path: Option<PathBuf>,
    /// How its records are written down.
    pub format: Format,
}

impl Input {
    /// How many records there are, if that can be known without taking them: of a regular file, which is read once for it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn count(&self) -> io::Result<Option<u64>> {
        let Some(path) = self.path.as_ref().filter(|path| path.is_file()) else { return Ok(None) };
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let (mut count, mut record) = (0, Vec::new());
        loop {
            // Nothing is kept, so there is room for nothing.
            match read_record(&mut reader, self.format, 0, &mut record)? {
                Read::End => break,
                _ => count += 1,
            }
        }
        let names = u64::from(self.format == Format::Csv);
        Ok(Some(count - names.min(count)))
    }

    /// The records, one after the other. Reading waits while nobody takes them. A record that cannot be read is one with an
    /// error; the operating system's errors end the stream.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn records(&self) -> io::Result<impl Stream<Item = io::Result<Record>> + Send + Unpin + use<>> {
        let reader: Box<dyn BufRead + Send> = match &self.path {
            Some(path) => Box::new(BufReader::with_capacity(1 << 16, File::open(path)?)),
            None => Box::new(BufReader::new(io::stdin())),
        };
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        let format = self.format;
        // A thread of its own: it may wait for standard input for ever.
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || read_all(reader, format, &sender))?;
        Ok(stream::poll_fn(move |context| receiver.poll_recv(context)))
    }
}

/// Until nobody takes them.
fn read_all(mut reader: impl BufRead, format: Format, sender: &mpsc::Sender<io::Result<Record>>) {
    let (mut bytes, mut columns, mut position) = (Vec::new(), None, 0);
    loop {
        let fields = match read_record(&mut reader, format, MAX_RECORD_BYTES, &mut bytes) {
            Ok(Read::End) => return,
            Ok(Read::TooLong(length)) => {
                Err(format!("the line has {length} bytes: must be at most {MAX_RECORD_BYTES}"))
            }
            Ok(Read::Record | Read::Torn) if format == Format::Csv && columns.is_none() => {
                columns = Some(cells(without_mark(&bytes)).unwrap_or_default());
                continue;
            }
            Ok(Read::Record | Read::Torn) => {
                let bytes = if position == 0 { without_mark(&bytes) } else { &bytes };
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

/// Spreadsheet programs put a byte order mark before the first byte.
fn without_mark(bytes: &[u8]) -> &[u8] {
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
    async fn every_line_is_a_record_at_its_position_and_wrong_ones_are_errors() {
        let (count, records) = read("\u{feff}{\"id\": 1}\nnonsense\n{\"id\": 3}", Format::Jsonl).await;
        assert_eq!((count, records.len()), (Some(3), 3));
        assert_eq!(records[0].fields.as_ref().unwrap()["id"], json!(1));
        assert!(records[1].fields.is_err());
        assert_eq!((records[2].position, records[2].fields.as_ref().unwrap()["id"].clone()), (2, json!(3)));
    }

    #[tokio::test]
    async fn the_first_line_of_csv_names_the_columns_and_is_no_record() {
        let (count, records) = read("id,image\n1,\"a,b.png\"\n2,c.png\n", Format::Csv).await;
        assert_eq!((count, records.len()), (Some(2), 2));
        assert_eq!(records[0].fields.as_ref().unwrap()["image"], json!("a,b.png"));
        assert_eq!(records[1].position, 1);
        assert_eq!(read("", Format::Csv).await, (Some(0), vec![]));
    }

    #[test]
    fn a_reader_whose_records_nobody_takes_reads_no_further() {
        let lines = "{}\n".repeat(10 * AHEAD);
        let mut bytes = lines.as_bytes();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        read_all(&mut bytes, Format::Jsonl, &sender);
        assert_eq!(bytes.len(), lines.len() - 3);
    }
}
