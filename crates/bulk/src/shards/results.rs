//! Reads the results of output shards.

use std::{io, ops::ControlFlow};

use futures::{Stream, stream};
use serde_json::Value;
use tokio::sync::mpsc;

#[cfg(feature = "parquet")]
use crate::shards::parquet_shard;
use crate::{
    format::Format,
    record::{Fields, Record, parse},
    shards::{catch_panic::catch_panic, columns::ResultColumn, shard_format::ShardFormat, tar_shard},
    storage::Location,
};

/// Number of results that are read ahead.
const READ_AHEAD: usize = 64;

/// Returns a stream of the results in output shards, in their order. Reading blocks while the
/// buffer is full. `columns` are those of Parquet files.
///
/// The record of a result has an `id`: the key of its sample, or the name of its Parquet file and
/// the number of its row, such as `a.parquet:17`. A sample without a readable result is a
/// [`Record`] with an error. A shard that cannot be read ends the stream.
///
/// # Errors
/// The thread that reads cannot be started.
pub fn shard_results(
    shards: Vec<Location>,
    result_name: &str,
    columns: &[ResultColumn],
) -> io::Result<impl Stream<Item = io::Result<Record>> + Send + Unpin + use<>> {
    let (name, columns) = (result_name.to_owned(), columns.to_vec());
    let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
    std::thread::Builder::new().name("results".to_owned()).spawn(move || {
        let mut position = 0;
        let mut send = |fields| {
            let record = Record { position, fields };
            position += 1;
            match sender.blocking_send(Ok(record)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        for shard in &shards {
            if let Err(error) = catch_panic(|| send_results(shard, &name, &columns, &mut send)).flatten() {
                let error = io::Error::new(error.kind(), format!("{shard}: {error}"));
                return drop(sender.blocking_send(Err(error)));
            }
            if sender.is_closed() {
                return;
            }
        }
    })?;
    Ok(stream::poll_fn(move |context| receiver.poll_recv(context)))
}

/// Passes the results of a shard to `send`, until it breaks.
#[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "only Parquet files have columns"))]
fn send_results(
    shard: &Location,
    name: &str,
    columns: &[ResultColumn],
    send: &mut impl FnMut(Result<Fields, String>) -> ControlFlow<()>,
) -> io::Result<()> {
    match ShardFormat::of(shard).map_err(io::Error::other)? {
        ShardFormat::Tar => tar_shard::walk_results(shard, name, |key, content| {
            let fields = content.and_then(|content| parse(&content, Format::Jsonl, &[]));
            send(fields.map(|fields| with_id(fields, key.to_owned())))
        }),
        #[cfg(feature = "parquet")]
        ShardFormat::Parquet => {
            let file = shard.name().to_string_lossy();
            for result in parquet_shard::read_results(shard, (name, columns))? {
                let (row, fields) = result?;
                if send(Ok(with_id(fields, format!("{file}:{row}")))).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }
}

fn with_id(mut fields: Fields, id: String) -> Fields {
    fields.insert("id".to_owned(), Value::String(id));
    fields
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures::StreamExt as _;
    use serde_json::json;
    use tar::{Builder, Header};

    use super::*;

    fn write_shard(path: &Path, members: &[(&str, &[u8])]) {
        let mut archive = Builder::new(std::fs::File::create(path).unwrap());
        for (name, content) in members {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        archive.finish().unwrap();
    }

    #[tokio::test]
    async fn results_of_all_shards_have_the_keys_of_their_samples() {
        let folder = tempfile::tempdir().unwrap();
        let shards = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
        let result: &[u8] = br#"{"caption": "a cat"}"#;
        write_shard(
            &shards[0],
            &[("README", b""), ("0.png", b"image"), ("0.blip.json", result), ("1.png", b"")],
        );
        write_shard(&shards[1], &[("x/2.blip.json", b"[]"), ("x/3.json", b"{}"), ("x/3.blip.json", b"{}")]);
        let results = shard_results(shards.map(Location::from).to_vec(), "blip", &[]).unwrap();
        let results: Vec<Record> = results.map(Result::unwrap).collect().await;
        let fields = |value: Value| Ok(value.as_object().cloned().unwrap());
        let expected = [
            fields(json!({"caption": "a cat", "id": "0"})),
            Err("member .blip.json is missing".to_owned()),
            Err("line is not a JSON object".to_owned()),
            fields(json!({"id": "x/3"})),
        ];
        let expected = (0..).zip(expected).map(|(position, fields)| Record { position, fields });
        assert_eq!(results, expected.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn unreadable_shard_is_named_and_ends_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        let shards = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
        write_shard(&shards[1], &[("0.blip.json", b"{}")]);
        let first = shards[0].display().to_string();
        let results: Vec<io::Result<Record>> =
            shard_results(shards.map(Location::from).to_vec(), "blip", &[]).unwrap().collect().await;
        let [Err(error)] = &results[..] else { panic!("{results:?}") };
        assert!(error.to_string().starts_with(&first), "{error}");
    }
}
