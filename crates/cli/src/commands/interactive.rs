//! Some images and what to ask about each, printed as outcomes come.

use anyhow::Context as _;
use bulk::{Fields, RecordResult, Task};
use futures::{StreamExt as _, stream};
use serde_json::json;
use server::serve::exit::Exit;

use crate::{
    output::{Format, PieceByPiece},
    records::merge,
};

/// Images that are asked about at a time.
const IN_FLIGHT: usize = 8;

/// Everything in `asked` about every image, together. `kind` is what is asked: "question", "prompt" or "text".
pub(crate) fn pairs(images: &[String], kind: &str, asked: &[Fields]) -> Vec<Vec<Fields>> {
    let pair = |(image_at, image): (usize, &String), (at, asked): (usize, &Fields)| {
        let mut fields = asked.clone();
        fields.insert("image".to_owned(), json!(image));
        fields.insert("image_index".to_owned(), json!(image_at));
        fields.insert(format!("{kind}_index"), json!(at));
        fields
    };
    images
        .iter()
        .enumerate()
        .map(|image| asked.iter().enumerate().map(|asked| pair(image, asked)).collect())
        .collect()
}

/// Asks `lots` and prints as they come, which is not in order.
pub(crate) async fn run(task: &impl Task, lots: Vec<Vec<Fields>>, format: Format) -> anyhow::Result<Exit> {
    let outcomes = stream::iter(lots).map(|lot| async { (task.process(lot.clone()).await, lot) });
    let mut outcomes = std::pin::pin!(outcomes.buffer_unordered(IN_FLIGHT));
    let mut all = true;
    while let Some((outcomes, lot)) = outcomes.next().await {
        for (record, outcome) in lot.into_iter().zip(outcomes.map_err(anyhow::Error::msg)?) {
            let (fields, answered) = settled(record, outcome)?;
            all &= answered;
            format.print(&fields).context("cannot print")?;
        }
    }
    Ok(if all { Exit::Clean } else { Exit::Failed })
}

/// The same one by one, for a task that prints pieces in between.
pub(crate) async fn run_streamed(
    task: &impl Task,
    lots: Vec<Vec<Fields>>,
    printed: &PieceByPiece,
) -> anyhow::Result<Exit> {
    let mut all = true;
    for record in lots.into_iter().flatten() {
        let outcomes = task.process(vec![record.clone()]).await.map_err(anyhow::Error::msg);
        let outcomes = outcomes.and_then(|outcomes| {
            outcomes
                .into_iter()
                .map(|outcome| settled(record.clone(), outcome))
                .collect::<Result<Vec<_>, _>>()
        });
        if outcomes.is_err() {
            printed.break_off().context("cannot print")?;
        }
        for (fields, answered) in outcomes? {
            all &= answered;
            printed.end(&fields).context("cannot print")?;
        }
    }
    Ok(if all { Exit::Clean } else { Exit::Failed })
}

/// The record with its outcome, and whether that is an answer.
fn settled(record: Fields, outcome: RecordResult) -> anyhow::Result<(Fields, bool)> {
    match outcome {
        RecordResult::Answered(own) => Ok((merge(record, own), true)),
        RecordResult::Failed(own) | RecordResult::Busy(_, own) => Ok((merge(record, own), false)),
        RecordResult::ConnectionLost(cause) => Err(anyhow::Error::msg(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_asked_about_every_image_with_its_place() {
        let asked =
            ["how many?", "which?"].map(|text| [("question".to_owned(), json!(text))].into_iter().collect());
        let lots = pairs(&["a.png".to_owned(), "b.png".to_owned()], "question", &asked);
        assert_eq!(lots.len(), 2);
        let last = &lots[1][1];
        assert_eq!((&last["image"], &last["question"]), (&json!("b.png"), &json!("which?")));
        assert_eq!((&last["image_index"], &last["question_index"]), (&json!(1), &json!(1)));
    }
}
