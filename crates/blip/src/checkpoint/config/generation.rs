//! `generation_config.json`: the generation options of requests that set none.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{batch::task::Generation, error::LoadError};

const FILE: &str = "generation_config.json";

/// Largest number of beams. More would exceed the hypotheses that are decoded together.
const MAX_BEAMS: i64 = 64;
const LENGTH_PENALTY: RangeInclusive<f32> = -10.0..=10.0;
const REPETITION_PENALTY: RangeInclusive<f32> = 0.01..=100.0;

/// Generation options of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationConfig {
    /// Largest number of generated tokens, with the stop token and without the start token.
    pub max_new_tokens: i64,
    /// Number of beams. 1 selects greedy decoding.
    pub num_beams: u32,
    /// Number of tokens before which the stop token is not chosen, with the start token.
    pub min_length: u32,
    /// Exponent of the length by which a beam's score is divided.
    pub length_penalty: f32,
    /// Penalty of tokens that occur already.
    pub repetition_penalty: f32,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        let Generation { num_beams, min_length, length_penalty, repetition_penalty, .. } = Generation::GREEDY;
        Self { max_new_tokens: 20, num_beams, min_length, length_penalty, repetition_penalty }
    }
}

#[derive(Deserialize)]
struct File {
    max_new_tokens: Option<i64>,
    max_length: Option<i64>,
    num_beams: Option<i64>,
    min_length: Option<i64>,
    min_new_tokens: Option<i64>,
    length_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl GenerationConfig {
    /// Reads `generation_config.json`. Lengths count the start token. A length limit above
    /// `max_positions` is lowered to it.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] if the file is not JSON, or a number is out of range.
    pub fn parse(json: &[u8], max_positions: i64) -> Result<Self, LoadError> {
        let file: File = serde_json::from_slice(json).map_err(|error| LoadError::invalid(FILE, error))?;
        warn_of_unused_options(&file.other);
        let default = Self::default();
        let max_new_tokens = match (file.max_new_tokens, file.max_length) {
            (Some(tokens), _) => tokens,
            (None, Some(length)) => length.saturating_sub(1),
            (None, None) => default.max_new_tokens,
        };
        check("max_new_tokens", max_new_tokens, 1..=i64::MAX)?;
        if max_new_tokens > max_positions {
            tracing::warn!(max_new_tokens, max_positions, "length limit of generation_config.json lowered");
        }
        let num_beams = file.num_beams.unwrap_or(1);
        check("num_beams", num_beams, 1..=MAX_BEAMS)?;
        let min_length = file.min_length.unwrap_or(0);
        check("min_length", min_length, 0..=max_positions)?;
        let min_new_tokens = file.min_new_tokens.unwrap_or(0);
        check("min_new_tokens", min_new_tokens, 0..=max_positions)?;
        let length_penalty = file.length_penalty.unwrap_or(default.length_penalty);
        check("length_penalty", length_penalty, LENGTH_PENALTY)?;
        let repetition_penalty = file.repetition_penalty.unwrap_or(default.repetition_penalty);
        check("repetition_penalty", repetition_penalty, REPETITION_PENALTY)?;
        let after_start = if min_new_tokens > 0 { min_new_tokens + 1 } else { 0 };
        let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Self {
            max_new_tokens: max_new_tokens.min(max_positions),
            num_beams: number(num_beams),
            min_length: number(min_length.max(after_start)),
            length_penalty,
            repetition_penalty,
        })
    }

    /// Returns the options for requests that set none. The length limit is that of the checkpoint.
    pub(crate) fn options(self) -> Generation {
        let Self { num_beams, min_length, length_penalty, repetition_penalty, .. } = self;
        Generation { num_beams, min_length, length_penalty, repetition_penalty, ..Generation::GREEDY }
    }
}

fn check<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), LoadError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let reason = format!("{key} is {value}, expected {} to {}", allowed.start(), allowed.end());
    Err(LoadError::invalid(FILE, reason))
}

/// Logs options that would change results and that are not supported as defaults.
fn warn_of_unused_options(options: &Map<String, Value>) {
    let unused = [
        ("do_sample", json!(false)),
        ("early_stopping", json!(false)),
        ("no_repeat_ngram_size", json!(0)),
        ("bad_words_ids", Value::Null),
        ("suppress_tokens", Value::Null),
        ("begin_suppress_tokens", Value::Null),
        ("forced_bos_token_id", Value::Null),
        ("forced_eos_token_id", Value::Null),
    ];
    for (key, neutral) in unused {
        if let Some(value) = options.get(key).filter(|value| !value.is_null() && **value != neutral) {
            tracing::warn!(option = key, %value, "option of generation_config.json not used");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<GenerationConfig, String> {
        GenerationConfig::parse(json.as_bytes(), 512).map_err(|error| error.to_string())
    }

    #[test]
    fn max_length_includes_start_token() {
        let tokens = |json| parse(json).map(|config| config.max_new_tokens);
        assert_eq!(tokens(r#"{"max_length": 20}"#), Ok(19));
        assert_eq!(tokens(r#"{"max_new_tokens": 5, "max_length": 20}"#), Ok(5));
        assert_eq!(tokens("{}"), Ok(20));
        assert!(tokens(r#"{"max_length": 1}"#).is_err());
    }

    #[test]
    fn length_limit_above_positions_is_lowered() {
        for json in [r#"{"max_length": 9999}"#, r#"{"max_new_tokens": 513}"#] {
            assert_eq!(parse(json).unwrap().max_new_tokens, 512);
        }
    }

    #[test]
    fn options_of_the_file_are_the_defaults_of_requests() {
        let json = r#"{"num_beams": 3, "min_length": 2, "length_penalty": -1.0, "repetition_penalty": 1.5,
            "do_sample": true, "top_k": 50, "pad_token_id": 0, "max_length": null}"#;
        let options = parse(json).unwrap().options();
        let expected = Generation {
            num_beams: 3,
            min_length: 2,
            length_penalty: -1.0,
            repetition_penalty: 1.5,
            ..Generation::GREEDY
        };
        assert_eq!(options, expected);
        assert_eq!(parse(r#"{"min_new_tokens": 4, "min_length": 2}"#).unwrap().min_length, 5);
        assert!(parse("{}").unwrap().options().is_greedy());
    }

    #[test]
    fn value_out_of_range_is_rejected_by_key() {
        for (json, expected) in [
            (r#"{"num_beams": 0}"#, "num_beams is 0, expected 1 to 64"),
            (r#"{"num_beams": 100000}"#, "num_beams is 100000, expected 1 to 64"),
            (r#"{"min_length": -1}"#, "min_length is -1, expected 0 to 512"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty is 0, expected 0.01 to 100"),
            (r#"{"length_penalty": 1e39}"#, "length_penalty is inf, expected -10 to 10"),
        ] {
            assert_eq!(parse(json), Err(format!("generation_config.json is not valid: {expected}")));
        }
    }
}
