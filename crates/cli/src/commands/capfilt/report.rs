//! The report: counts, a histogram of probabilities and a sample of texts, for a whole output.

use anyhow::Context as _;
use bulk::Fields;
use serde_json::{Value, json};

use crate::{
    commands::capfilt::{
        histogram::Histogram,
        sample::Sample,
        scored_text::{SCORED_TEXTS, ScoredText, TextSource, passes},
    },
    records::display_name,
};

/// Number of texts in each sample.
const SAMPLE_TEXTS: usize = 10;

/// Maximum length of a text in a sample, in characters.
const MAX_SAMPLE_CHARS: usize = 200;

/// What an output holds.
#[derive(Debug)]
pub(super) struct FilterReport {
    pub(super) threshold: f64,
    /// All records.
    pub(super) records: u64,
    /// Records with an error. They have no texts.
    pub(super) failed: u64,
    /// Records that have scores, but none for a web text.
    pub(super) without_web_text: u64,
    pub(super) shards_without_output: usize,
    pub(super) web: SourceReport,
    pub(super) synthetic: SourceReport,
}

/// The texts of one source.
#[derive(Debug)]
pub(super) struct SourceReport {
    pub(super) passed: u64,
    pub(super) dropped: u64,
    /// Texts that the server rejected. They do not pass, either.
    pub(super) rejected: u64,
    pub(super) probabilities: Histogram,
    pub(super) passed_sample: Sample<SampleText>,
    pub(super) dropped_sample: Sample<SampleText>,
}

/// A text of a sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampleText {
    /// The `id` of its record, or its image.
    pub(super) record: String,
    pub(super) text: String,
    pub(super) probability: f64,
}

impl FilterReport {
    pub(super) fn new(threshold: f64) -> Self {
        Self {
            threshold,
            records: 0,
            failed: 0,
            without_web_text: 0,
            shards_without_output: 0,
            web: SourceReport::new(),
            synthetic: SourceReport::new(),
        }
    }

    /// Adds the fields of a record.
    ///
    /// # Errors
    /// A record that is no result of this command, or of another threshold.
    pub(super) fn add(&mut self, fields: &Fields) -> anyhow::Result<()> {
        self.records += 1;
        if fields.get("error").is_some_and(|error| !error.is_null()) {
            self.failed += 1;
            return Ok(());
        }
        let texts = scored_texts(fields)?;
        if texts.iter().all(|text| text.source != TextSource::Web) {
            self.without_web_text += 1;
        }
        for text in texts {
            anyhow::ensure!(
                text.passed == passes(text.probability, self.threshold),
                "its texts were filtered with another threshold than {}: use that threshold, or --force",
                self.threshold
            );
            let source = match text.source {
                TextSource::Web => &mut self.web,
                TextSource::Synthetic => &mut self.synthetic,
            };
            source.add(fields, text);
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "threshold": self.threshold,
            "records": self.records,
            "failed": self.failed,
            "without_web_text": self.without_web_text,
            "shards_without_output": self.shards_without_output,
            "web": self.web.to_json(),
            "synthetic": self.synthetic.to_json(),
        })
    }
}

impl SourceReport {
    fn new() -> Self {
        Self {
            passed: 0,
            dropped: 0,
            rejected: 0,
            probabilities: Histogram::default(),
            passed_sample: Sample::new(SAMPLE_TEXTS),
            dropped_sample: Sample::new(SAMPLE_TEXTS),
        }
    }

    fn add(&mut self, fields: &Fields, text: ScoredText) {
        let ScoredText { text, probability, passed, .. } = text;
        let Some(probability) = probability else {
            self.rejected += 1;
            return;
        };
        self.probabilities.add(probability);
        let (count, sample) = match passed {
            true => (&mut self.passed, &mut self.passed_sample),
            false => (&mut self.dropped, &mut self.dropped_sample),
        };
        *count += 1;
        sample.offer(|| SampleText { record: record_name(fields), text: shortened(&text), probability });
    }

    fn to_json(&self) -> Value {
        json!({
            "passed": self.passed,
            "dropped": self.dropped,
            "rejected": self.rejected,
            "histogram": self.probabilities.to_json(),
            "passed_sample": sample_json(&self.passed_sample),
            "dropped_sample": sample_json(&self.dropped_sample),
        })
    }
}

fn sample_json(sample: &Sample<SampleText>) -> Value {
    let text = |text: &SampleText| json!({"record": text.record, "text": text.text, "probability": text.probability});
    sample.items().into_iter().map(text).collect()
}

/// Returns the texts of a record. In CSV they are JSON in a cell.
fn scored_texts(fields: &Fields) -> anyhow::Result<Vec<ScoredText>> {
    let value = fields.get(SCORED_TEXTS).context("scored_texts is missing: the output is not of capfilt")?;
    let texts = match value {
        Value::String(cell) => serde_json::from_str(cell),
        value => serde_json::from_value(value.clone()),
    };
    texts.context("invalid scored_texts")
}

fn record_name(fields: &Fields) -> String {
    let name = match (fields.get("id"), fields.get("image")) {
        (Some(Value::String(id)), _) => id.clone(),
        (Some(id), _) if !id.is_null() => id.to_string(),
        (_, image) => display_name(image.and_then(Value::as_str).unwrap_or_default()),
    };
    shortened(&name)
}

/// Returns the beginning of a text that is too long for a sample.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SAMPLE_CHARS) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn fields(value: Value) -> Fields {
        value.as_object().cloned().unwrap()
    }

    pub(crate) fn report() -> FilterReport {
        let mut report = FilterReport::new(0.5);
        for record in [
            json!({"id": 7, "scored_texts": [
                {"text": "a | cat\nhere", "source": "web", "probability": 0.25, "passed": false},
                {"text": "a dog", "source": "synthetic", "probability": 0.975, "passed": true},
            ]}),
            json!({"image": "data:image/png;base64,AAAA", "scored_texts": [
                {"text": "*a* ring", "source": "synthetic", "probability": 0.75, "passed": true},
            ]}),
            json!({"id": "x", "scored_texts": [
                {"text": "long", "source": "web", "passed": false, "error": {"reason": "QUESTION_TOO_LONG"}},
                {"text": "a dog", "source": "synthetic", "probability": 0.125, "passed": false},
            ]}),
            json!({"id": "y", "error": {"reason": "IMAGE_EMPTY"}}),
            json!({"id": "z", "scored_texts": "[]", "error": null}),
        ] {
            report.add(&fields(record)).unwrap();
        }
        report
    }

    #[test]
    fn report_counts_records_and_texts() {
        let report = report().to_json();
        let counts = ["records", "failed", "without_web_text"].map(|name| report[name].as_u64().unwrap());
        assert_eq!(counts, [5, 1, 2]);
        let counts = |source: &str| {
            ["passed", "dropped", "rejected"].map(|name| report[source][name].as_u64().unwrap())
        };
        assert_eq!((counts("web"), counts("synthetic")), ([0, 1, 1], [2, 1, 0]));
        assert_eq!(report["synthetic"]["histogram"][15], json!({"from": 0.75, "to": 0.8, "count": 1}));
        let expected = json!([
            {"record": "7", "text": "a dog", "probability": 0.975},
            {"record": "data:image/png;base64,...", "text": "*a* ring", "probability": 0.75},
        ]);
        assert_eq!(report["synthetic"]["passed_sample"], expected);
    }

    #[test]
    fn results_of_other_commands_and_thresholds_are_errors() {
        let texts = json!([{"text": "a", "source": "web", "probability": 0.75, "passed": true}]);
        for (record, expected) in [
            (json!({"caption": "a cat"}), "scored_texts is missing"),
            (json!({"scored_texts": [{"text": "a"}]}), "invalid scored_texts"),
            (json!({"scored_texts": texts}), "another threshold than 0.9"),
        ] {
            let error = FilterReport::new(0.9).add(&fields(record)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn long_text_of_a_sample_is_shortened() {
        assert_eq!(shortened("é"), "é");
        assert_eq!(shortened(&"é".repeat(300)), format!("{}...", "é".repeat(MAX_SAMPLE_CHARS)));
    }
}
