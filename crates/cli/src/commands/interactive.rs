//! A few images on a command line, with results printed as they arrive.

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use bulk::{Fields, RecordResult, Task};
use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::output::ResultPrinter;

/// Maximum number of groups in flight.
const MAX_IN_FLIGHT: usize = 8;

/// Returns a record with one text field.
pub(crate) fn record(field: &str, value: &str) -> Fields {
    [(field.to_owned(), json!(value))].into_iter().collect()
}

/// Returns one group for each image, with each of `texts`.
///
/// `kind` is the field of a text: "question", "prompt" or "text". A record also has the indices of
/// its image and its text.
pub(crate) fn groups_by_image(images: &[String], kind: &str, texts: &[Fields]) -> Vec<Vec<Fields>> {
    let pair = |(image_index, image): (usize, &String), (index, text): (usize, &Fields)| {
        let mut fields = text.clone();
        fields.insert("image".to_owned(), json!(image));
        fields.insert("image_index".to_owned(), json!(image_index));
        fields.insert(format!("{kind}_index"), json!(index));
        fields
    };
    let group = |image| texts.iter().enumerate().map(|text| pair(image, text)).collect();
    images.iter().enumerate().map(group).collect()
}

/// Processes `groups`, and prints results as they arrive.
///
/// With a streaming printer, the groups are processed one after the other.
pub(crate) async fn run(
    task: &impl Task,
    groups: Vec<Vec<Fields>>,
    printer: &ResultPrinter,
) -> anyhow::Result<Exit> {
    let exit = process(task, groups, printer).await;
    printer.end_line().context("cannot print")?;
    exit
}

async fn process(
    task: &impl Task,
    groups: Vec<Vec<Fields>>,
    printer: &ResultPrinter,
) -> anyhow::Result<Exit> {
    let max_in_flight = if printer.is_streaming() { 1 } else { MAX_IN_FLIGHT };
    let results = stream::iter(groups).map(|group| async { (task.process(group.clone()).await, group) });
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
        let groups = groups_by_image(&["a.png".to_owned(), "b.png".to_owned()], "question", &questions);
        assert_eq!(groups.len(), 2);
        let last = &groups[1][1];
        assert_eq!((&last["image"], &last["question"]), (&json!("b.png"), &json!("which?")));
        assert_eq!((&last["image_index"], &last["question_index"]), (&json!(1), &json!(1)));
    }
}
