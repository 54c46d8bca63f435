//! `generation_config.json`: the length limit of answers.

use serde::Deserialize;

use crate::error::LoadError;

/// Length limit of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationConfig {
    /// Largest number of generated tokens, with the stop token and without the start token.
    pub max_new_tokens: i64,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self { max_new_tokens: 20 }
    }
}

impl GenerationConfig {
    /// Reads `generation_config.json`: `max_new_tokens`, or `max_length`, which counts the start
    /// token.
    ///
    /// # Errors
    /// [`LoadError::Invalid`] if the file is not JSON, or the number exceeds the model's positions.
    pub fn parse(json: &[u8], max_positions: i64) -> Result<Self, LoadError> {
        const FILE: &str = "generation_config.json";
        #[derive(Deserialize)]
        struct File {
            max_new_tokens: Option<i64>,
            max_length: Option<i64>,
        }
        let file: File = serde_json::from_slice(json).map_err(|error| LoadError::invalid(FILE, error))?;
        let max_new_tokens = match (file.max_new_tokens, file.max_length) {
            (Some(tokens), _) => tokens,
            (None, Some(length)) => length - 1,
            (None, None) => Self::default().max_new_tokens,
        };
        if !(1..=max_positions).contains(&max_new_tokens) {
            let reason = format!("max_new_tokens is {max_new_tokens}, expected 1 to {max_positions}");
            return Err(LoadError::invalid(FILE, reason));
        }
        Ok(Self { max_new_tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_length_includes_start_token() {
        let new =
            |json: &str| GenerationConfig::parse(json.as_bytes(), 512).map(|config| config.max_new_tokens);
        assert_eq!(new(r#"{"max_length": 20}"#).unwrap(), 19);
        assert_eq!(new(r#"{"max_new_tokens": 5, "max_length": 20}"#).unwrap(), 5);
        assert_eq!(new("{}").unwrap(), 20);
        assert!(new(r#"{"max_length": 1}"#).is_err());
        assert!(new(r#"{"max_new_tokens": 513}"#).is_err());
    }
}
