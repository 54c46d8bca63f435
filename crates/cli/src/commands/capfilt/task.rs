//! Captions an image and scores its texts: a call for all captions, and a call for all texts.

use bulk::{Fields, RecordResult, Task};
use proto::{CaptionRequest, MatchRequest};
use serde_json::{Value, json};

use crate::{
    commands::capfilt::scored_text::{PASSED_TEXTS, SCORED_TEXTS, ScoredText, TextSource, passes},
    connection::RpcClient,
    records::{CaptionTask, ImageLoader, MatchTask, error_fields, text},
};

/// The code of the error of a text that no server can score.
const INVALID: &str = "INVALID_ARGUMENT";

/// Captions the `image` of records, and scores the captions and the `text` of each record.
#[derive(Debug)]
pub(crate) struct CapfiltTask {
    pub(crate) client: RpcClient,
    pub(crate) images: ImageLoader,
    /// The fields that all requests for captions share. A seed in the options is combined with the
    /// image.
    pub(crate) captions: CaptionRequest,
    /// The fields that all requests for scores share.
    pub(crate) matching: MatchRequest,
    /// The probability above which a text passes.
    pub(crate) threshold: f64,
}

/// A text of a record before it is scored.
type UnscoredText = (String, TextSource);

impl Task for CapfiltTask {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let Some(image) = records.first().and_then(|record| record.get("image")).cloned() else {
            let missing = RecordResult::Failed(error_fields("LINE_INVALID", "image is missing"));
            return Ok(vec![missing; records.len()]);
        };
        let prompts = records.iter().map(|record| record.get("prompt").cloned().unwrap_or_default());
        let captions = self.caption_task(&image).process(records_about(&image, "prompt", prompts)).await?;
        let texts: Vec<Result<Vec<UnscoredText>, RecordResult>> =
            records.iter().zip(captions).map(|(record, captions)| texts_of(record, captions)).collect();
        let pairs =
            records_about(&image, "text", texts.iter().flatten().flatten().map(|(text, _)| json!(text)));
        let scores = match pairs.is_empty() {
            true => Vec::new(),
            false => self.match_task().process(pairs).await?,
        };
        let mut scores = scores.into_iter();
        let mut results = Vec::with_capacity(texts.len());
        for texts in texts {
            results.push(match texts {
                Ok(texts) => {
                    let scores = scores.by_ref().take(texts.len()).collect();
                    join(texts, scores, self.threshold)
                }
                Err(result) => result,
            });
        }
        Ok(results)
    }
}

impl CapfiltTask {
    fn caption_task(&self, image: &Value) -> CaptionTask {
        let mut request = self.captions.clone();
        if let Some(generation) = &mut request.generation {
            generation.seed = generation.seed.map(|seed| image_seed(seed, image));
        }
        CaptionTask { client: self.client.clone(), images: self.images.clone(), request, pieces: None }
    }

    fn match_task(&self) -> MatchTask {
        let request = self.matching.clone();
        MatchTask { client: self.client.clone(), images: self.images.clone(), request }
    }
}

/// Returns the seed of an image: its captions depend neither on other images nor on their order.
///
/// Equal seeds would choose the tokens of all images by the same random numbers.
fn image_seed(seed: u64, image: &Value) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(image.as_str().unwrap_or_default().as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Returns the text of a record and its captions, each text once.
///
/// # Errors
/// The result of a record without captions, or whose text is not a text.
fn texts_of(record: &Fields, captions: RecordResult) -> Result<Vec<UnscoredText>, RecordResult> {
    let captions = match captions {
        RecordResult::Answered(fields) => fields,
        other => return Err(other),
    };
    let web = text(record, "text").map_err(RecordResult::Failed)?.unwrap_or_default();
    let prompt = text(record, "prompt").map_err(RecordResult::Failed)?.unwrap_or_default();
    let caption = captions.get("caption").and_then(Value::as_str);
    let alternatives = captions.get("alternatives").and_then(Value::as_array).into_iter().flatten();
    let others = alternatives.filter_map(|other| other.get("text")?.as_str());
    let synthetic = caption.into_iter().chain(others).map(|caption| without_prompt(caption, prompt));
    let all = std::iter::once((web, TextSource::Web))
        .chain(synthetic.map(|text| (text, TextSource::Synthetic)))
        .map(|(text, source)| (text.trim(), source));
    let mut texts: Vec<UnscoredText> = Vec::new();
    for (text, source) in all {
        if !text.is_empty() && texts.iter().all(|(other, _)| other != text) {
            texts.push((text.to_owned(), source));
        }
    }
    Ok(texts)
}

/// Returns a caption without the prompt that it continues. Its letters can be smaller.
fn without_prompt<'a>(caption: &'a str, prompt: &str) -> &'a str {
    let prompt = prompt.trim();
    match caption.split_at_checked(prompt.len()) {
        Some((beginning, rest)) if beginning.eq_ignore_ascii_case(prompt) => rest,
        _ => caption,
    }
}

/// Returns the records of one request, with a `field` each. Only the first one has the image, which
/// is that of all: it can be large.
fn records_about(image: &Value, field: &str, values: impl Iterator<Item = Value>) -> Vec<Fields> {
    let mut records: Vec<Fields> =
        values.map(|value| [(field.to_owned(), value)].into_iter().collect()).collect();
    if let Some(first) = records.first_mut() {
        first.insert("image".to_owned(), image.clone());
    }
    records
}

/// Joins the scores of the texts of a record.
///
/// A text that the server rejects as invalid is dropped. If it rejects all of them, or fails for
/// another reason, the record has no result.
fn join(texts: Vec<UnscoredText>, scores: Vec<RecordResult>, threshold: f64) -> RecordResult {
    let mut scored = Vec::with_capacity(texts.len());
    let mut rejection = None;
    for ((text, source), score) in texts.into_iter().zip(scores) {
        let (probability, error) = match score {
            RecordResult::Answered(fields) => (fields.get("probability").and_then(Value::as_f64), None),
            RecordResult::Failed(fields) if is_invalid(&fields) => {
                let error = fields.get("error").cloned();
                rejection.get_or_insert(fields);
                (None, error)
            }
            other => return other,
        };
        let passed = passes(probability, threshold);
        scored.push(ScoredText { text, source, probability, passed, error });
    }
    if let Some(rejection) = rejection
        && scored.iter().all(|text| text.probability.is_none())
    {
        return RecordResult::Failed(rejection);
    }
    let passed: Vec<&str> = scored.iter().filter(|text| text.passed).map(|text| &*text.text).collect();
    let passed = json!(passed);
    RecordResult::Answered(
        [(PASSED_TEXTS.to_owned(), passed), (SCORED_TEXTS.to_owned(), json!(scored))].into_iter().collect(),
    )
}

fn is_invalid(fields: &Fields) -> bool {
    fields.get("error").and_then(|error| error.get("code")).is_some_and(|code| code == INVALID)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn fields(value: Value) -> Fields {
        value.as_object().cloned().unwrap()
    }

    fn texts(record: Value, captions: Value) -> Vec<UnscoredText> {
        texts_of(&fields(record), RecordResult::Answered(fields(captions))).unwrap()
    }

    fn score(probability: f64) -> RecordResult {
        RecordResult::Answered(fields(json!({"probability": probability, "cosine": 0.5})))
    }

    fn rejection(code: &str) -> RecordResult {
        RecordResult::Failed(fields(json!({"error": {"code": code, "reason": "QUESTION_TOO_LONG"}})))
    }

    fn two_texts() -> Vec<UnscoredText> {
        vec![("a cat".to_owned(), TextSource::Web), ("a dog".to_owned(), TextSource::Synthetic)]
    }

    #[test]
    fn texts_are_that_of_the_record_and_distinct_captions() {
        let captions = json!({"caption": "a photo of a cat", "alternatives": [
            {"text": "a photo of a dog"}, {"text": "a photo of a cat"}, {"text": "A photo of"},
        ]});
        let found = texts(json!({"text": " a dog\n", "prompt": "A photo of "}), captions.clone());
        let expected = [("a dog", TextSource::Web), ("a cat", TextSource::Synthetic)];
        assert_eq!(found, expected.map(|(text, source)| (text.to_owned(), source)));
        let found = texts(json!({"text": null}), captions);
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|(_, source)| *source == TextSource::Synthetic), "{found:?}");
        assert_eq!(texts(json!({"text": ""}), json!({"caption": ""})), []);
    }

    #[test]
    fn record_without_captions_has_their_error() {
        let busy = RecordResult::Busy(Duration::ZERO, Fields::new());
        assert_eq!(texts_of(&Fields::new(), busy.clone()), Err(busy));
        let Err(RecordResult::Failed(error)) =
            texts_of(&fields(json!({"text": 3})), RecordResult::Answered(Fields::new()))
        else {
            panic!("a number is a text")
        };
        assert_eq!(error["error"]["message"], "text is 3: must be a text");
    }

    #[test]
    fn texts_above_the_threshold_pass() {
        let RecordResult::Answered(fields) = join(two_texts(), vec![score(0.5), score(0.75)], 0.5) else {
            panic!("no result")
        };
        assert_eq!(fields[PASSED_TEXTS], json!(["a dog"]));
        let expected = json!([
            {"text": "a cat", "source": "web", "probability": 0.5, "passed": false},
            {"text": "a dog", "source": "synthetic", "probability": 0.75, "passed": true},
        ]);
        assert_eq!(fields[SCORED_TEXTS], expected);
    }

    #[test]
    fn rejected_text_is_dropped_and_other_errors_fail_the_record() {
        let RecordResult::Answered(fields) = join(two_texts(), vec![rejection(INVALID), score(0.9)], 0.5)
        else {
            panic!("no result")
        };
        assert_eq!(fields[PASSED_TEXTS], json!(["a dog"]));
        assert_eq!(fields[SCORED_TEXTS][0]["error"]["reason"], "QUESTION_TOO_LONG");
        assert_eq!(fields[SCORED_TEXTS][0].get("probability"), None);
        for result in [rejection("INTERNAL"), RecordResult::Unavailable("gone".to_owned())] {
            assert_eq!(join(two_texts(), vec![score(0.9), result.clone()], 0.5), result);
        }
        let all = vec![rejection(INVALID), rejection(INVALID)];
        assert_eq!(join(two_texts(), all, 0.5), rejection(INVALID));
    }

    proptest! {
        #[test]
        fn passed_texts_are_those_that_passed(
            scores in prop::collection::vec(0.0_f64..=1.0, 0..8), threshold in 0.0_f64..=1.0
        ) {
            let names = (0..scores.len()).map(|at| (at.to_string(), TextSource::Synthetic)).collect();
            let results = scores.iter().map(|probability| score(*probability)).collect();
            let RecordResult::Answered(fields) = join(names, results, threshold) else { panic!("no result") };
            let expected: Vec<String> = (0..scores.len())
                .filter(|at| scores[*at] > threshold)
                .map(|at| at.to_string())
                .collect();
            prop_assert_eq!(&fields[PASSED_TEXTS], &json!(expected));
        }

        #[test]
        fn seed_depends_on_seed_and_image(seed: u64, image in ".{0,40}", other in ".{0,40}") {
            prop_assume!(image != other);
            let derived = image_seed(seed, &json!(image));
            prop_assert_eq!(derived, image_seed(seed, &json!(image)));
            prop_assert_ne!(derived, image_seed(seed, &json!(other)));
            prop_assert_ne!(derived, image_seed(seed.wrapping_add(1), &json!(image)));
        }
    }
}
