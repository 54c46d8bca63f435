//! Reads what a retry needs of an output shard.

use std::{io, ops::ControlFlow, sync::mpsc};

use crate::{
    format::Format,
    record::parse,
    shards::tar_shard::result_walk::walk_results,
    storage::{Location, StopRequests},
};

/// Number of results that are read ahead.
const READ_AHEAD: usize = 64;

/// Calls `add` for each sample of an output shard with its key, and whether it has failed: its
/// result is an error, or is no JSON object.
///
/// # Errors
/// The output cannot be read, or has a sample without a result of this name. Then it is of another
/// run, whose results would be lost.
pub(in crate::shards) fn read_states(
    output: &Location,
    result_name: &str,
    mut add: impl FnMut(&str, bool),
) -> io::Result<()> {
    let mut missing = None;
    walk_results(output, result_name, |key, content| match content {
        Ok(content) => {
            let fields = parse(&content, Format::Jsonl, &[]);
            add(key, fields.map_or(true, |fields| fields.get("error").is_some_and(|error| !error.is_null())));
            ControlFlow::Continue(())
        }
        Err(reason) => {
            missing = Some(io::Error::other(format!("sample {key}: {reason}")));
            ControlFlow::Break(())
        }
    })?;
    missing.map_or(Ok(()), Err)
}

/// Returns the results in an output shard as they are, each with the key of its sample.
///
/// # Errors
/// The thread that reads cannot be started.
pub(in crate::shards) fn read_results(
    output: &Location,
    result_name: &str,
) -> io::Result<impl Iterator<Item = io::Result<(String, Vec<u8>)>> + use<>> {
    let (output, name) = (output.clone(), result_name.to_owned());
    let (sender, results) = mpsc::sync_channel(READ_AHEAD);
    let send = move || {
        let walked = walk_results(&output, &name, |key, content| {
            let result = content.map(|content| (key.to_owned(), content)).map_err(io::Error::other);
            match sender.send(result) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        if let Err(error) = walked {
            // The writer can have ended before, with its own error.
            let _ = sender.send(Err(error));
        }
    };
    let requests = StopRequests::current().unwrap_or_default();
    let thread = std::thread::Builder::new().name("stored results".to_owned());
    thread.spawn(move || requests.scope(send))?;
    Ok(results.into_iter())
}
