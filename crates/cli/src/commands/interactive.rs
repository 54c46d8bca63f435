//! A few images on a command line, with results printed as they arrive.

use std::io;

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use bulk::{Fields, Record, RecordResult, Task};
use futures::{Stream, StreamExt as _, stream};
use serde_json::json;

use crate::output::ResultPrinter;

/// Groups of records, one for each request. They are made one by one, for folders of any size.
pub(crate) struct RecordGroups<'a> {
    /// The number of records in all groups.
    pub(crate) count: usize,
    /// The groups.
    pub(crate) groups: Box<dyn Iterator<Item = Vec<Fields>> + Send + 'a>,
}

impl<'a> RecordGroups<'a> {
    /// Returns the records of all groups.
    pub(crate) fn into_records(self) -> impl Stream<Item = io::Result<Record>> + Send + Unpin + use<'a> {
        let records = (0..).zip(self.groups.flatten());
        stream::iter(records.map(|(position, fields)| Ok(Record { position, fields: Ok(fields) })))
    }
}

/// Returns a record with one text field.
pub(crate) fn record(field: &str, value: &str) -> Fields {
    [(field.to_owned(), json!(value))].into_iter().collect()
}

/// Returns one group for each image, with each of `texts`.
///
/// `kind` is the field of a text: "question", "prompt" or "text". A record also has the indices of
/// its image and its text.
pub(crate) fn groups_by_image<'a>(
    images: Vec<String>,
    kind: &'a str,
    texts: &'a [Fields],
) -> RecordGroups<'a> {
    let pair = move |(image_index, image): (usize, &String), (index, text): (usize, &Fields)| {
        let mut fields = text.clone();
        fields.insert("image".to_owned(), json!(image));
        fields.insert("image_index".to_owned(), json!(image_index));
        fields.insert(format!("{kind}_index"), json!(index));
        fields
    };
    let group = move |(image_index, image): (usize, String)| {
        texts.iter().enumerate().map(|text| pair((image_index, &image), text)).collect()
    };
    let count = images.len().saturating_mul(texts.len());
    RecordGroups { count, groups: Box::new(images.into_iter().enumerate().map(group)) }
}

/// Processes `groups`, and prints results as they arrive.
///
/// At most `max_in_flight` groups are processed at a time, and one with a streaming printer.
pub(crate) async fn run(
    task: &impl Task,
    groups: RecordGroups<'_>,
    printer: &ResultPrinter,
    max_in_flight: usize,
) -> anyhow::Result<Exit> {
    let exit = process(task, groups, printer, max_in_flight).await;
    printer.end_line().context("cannot print")?;
    exit
}

async fn process(
    task: &impl Task,
    groups: RecordGroups<'_>,
    printer: &ResultPrinter,
    max_in_flight: usize,
) -> anyhow::Result<Exit> {
    let max_in_flight = if printer.is_streaming() { 1 } else { max_in_flight };
    let results =
        stream::iter(groups.groups).map(|group| async { (task.process(group.clone()).await, group) });
    let mut results = std::pin::pin!(results.buffer_unordered(max_in_flight));
    let mut exit = Exit::Clean;
    while let Some((results, group)) = results.next().await {
        for (mut record, result) in group.into_iter().zip(results.map_err(anyhow::Error::msg)?) {
            let fields = match result {
                RecordResult::Answered(fields) => fields,
                RecordResult::Failed(fields) | RecordResult::Busy(_, fields) => {
                    exit = Exit::Failed;
                    fields
                }
                RecordResult::Unavailable(cause) => return Err(anyhow::Error::msg(cause)),
            };
            record.extend(fields);
            printer.print_result(&record).context("cannot print")?;
        }
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_gets_every_text_with_indices() {
        let questions = ["how many?", "which?"].map(|text| record("question", text));
        let images = vec!["a.png".to_owned(), "b.png".to_owned()];
        let groups = groups_by_image(images, "question", &questions);
        assert_eq!(groups.count, 4);
        let groups: Vec<Vec<Fields>> = groups.groups.collect();
        assert_eq!(groups.len(), 2);
        let last = &groups[1][1];
        assert_eq!((&last["image"], &last["question"]), (&json!("b.png"), &json!("which?")));
        assert_eq!((&last["image_index"], &last["question_index"]), (&json!(1), &json!(1)));
    }
}
