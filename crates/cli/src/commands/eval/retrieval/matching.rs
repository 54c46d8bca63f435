//! Logits of the matching head for the candidates.

use bulk::{Fields, RecordResult, Task};
use serde_json::{Value, json};

use crate::{
    commands::eval::{
        partial_results::PartialResults,
        retrieval::{
            pairs::RetrievalData,
            ranking::{PairLogits, Similarities},
        },
    },
    messages::print_message,
    records::MatchTask,
};

/// Maximum number of texts in a request.
const MAX_REQUEST_TEXTS: usize = 32;

/// Matches the `image` of a record with its `texts`, which are indices. The result has a logit for
/// each.
pub(crate) struct RerankTask<'a> {
    pub(crate) matching: MatchTask,
    pub(crate) texts: &'a [String],
}

/// Returns records for all pairs. Each has an image and some of its texts.
pub(crate) fn records(data: &RetrievalData, similarities: &Similarities) -> Vec<Fields> {
    let mut records = Vec::new();
    for (at, (image, texts)) in data.images().iter().zip(similarities.pairs()).enumerate() {
        for texts in texts.chunks(MAX_REQUEST_TEXTS) {
            let first = texts.first().copied().unwrap_or_default();
            let fields =
                json!({"id": format!("{at} {first}"), "image": image, "image_index": at, "texts": texts});
            records.extend(fields.as_object().cloned());
        }
    }
    records
}

/// Reads the results of [`records`]. If one has failed, prints the errors and returns `None`.
pub(crate) async fn read_logits(results: &PartialResults) -> anyhow::Result<Option<PairLogits>> {
    let mut logits = PairLogits::new();
    let failed = results
        .read(|fields| {
            let value = |field: &str| fields.get(field).cloned().unwrap_or(Value::Null);
            if !fields.contains_key("error") {
                let image: usize = serde_json::from_value(value("image_index"))?;
                let texts: Vec<usize> = serde_json::from_value(value("texts"))?;
                let values: Vec<f32> = serde_json::from_value(value("logits"))?;
                logits.extend(texts.into_iter().map(|text| (image, text)).zip(values));
            }
            Ok(())
        })
        .await?;
    if failed > 0 {
        print_message(&format!("{failed} records have no scores: remove their cause, and use --force"));
        return Ok(None);
    }
    Ok(Some(logits))
}

impl RerankTask<'_> {
    /// Returns a record for each text of `record`.
    fn pairs(&self, record: &Fields) -> Vec<Fields> {
        let indices = record.get("texts").and_then(Value::as_array).into_iter().flatten();
        let texts = indices.filter_map(|index| self.texts.get(usize::try_from(index.as_u64()?).ok()?));
        let image = record.get("image").cloned().unwrap_or_default();
        texts
            .map(|text| {
                [("image".to_owned(), image.clone()), ("text".to_owned(), json!(text))].into_iter().collect()
            })
            .collect()
    }
}

impl Task for RerankTask<'_> {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let mut results = Vec::with_capacity(records.len());
        for record in &records {
            results.push(join(self.matching.process(self.pairs(record)).await?));
        }
        Ok(results)
    }
}

/// Joins the results of pairs. The first pair that has no scores decides.
fn join(pairs: Vec<RecordResult>) -> RecordResult {
    let mut logits = Vec::with_capacity(pairs.len());
    for pair in pairs {
        match pair {
            RecordResult::Answered(fields) => {
                logits
                    .push(fields.get("logits").and_then(|logits| logits.get(1)).cloned().unwrap_or_default());
            }
            other => return other,
        }
    }
    RecordResult::Answered([("logits".to_owned(), Value::Array(logits))].into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(logits: [f64; 2]) -> RecordResult {
        RecordResult::Answered([("logits".to_owned(), json!(logits))].into_iter().collect())
    }

    #[test]
    fn joined_result_has_the_second_logit_of_each_pair() {
        let RecordResult::Answered(fields) = join(vec![scores([1.0, 2.0]), scores([3.0, 4.0])]) else {
            panic!("no answer")
        };
        assert_eq!(fields["logits"], json!([2.0, 4.0]));
        let unavailable = RecordResult::Unavailable("gone".into());
        assert_eq!(join(vec![scores([1.0, 2.0]), unavailable.clone()]), unavailable);
    }
}
