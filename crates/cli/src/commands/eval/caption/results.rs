//! The results file, in the format of the leaderboard.

use anyhow::Context as _;
use bulk::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The caption of an image.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct CaptionResult {
    pub(crate) image_id: u64,
    pub(crate) caption: String,
}

impl CaptionResult {
    /// Returns the result of a record with the fields `id` and `caption`.
    ///
    /// The caption of a failed image is empty, and that of others has no `prompt`.
    pub(crate) fn new(fields: &Fields, prompt: Option<&str>) -> anyhow::Result<Self> {
        let image_id = fields.get("id").and_then(Value::as_u64).context("a partial result without id")?;
        let caption = fields.get("caption").and_then(Value::as_str).unwrap_or_default();
        let prompt = prompt.unwrap_or_default().trim();
        let caption = match caption.get(..prompt.len()) {
            Some(beginning) if beginning.eq_ignore_ascii_case(prompt) => {
                caption.get(prompt.len()..).unwrap_or_default()
            }
            _ => caption,
        };
        Ok(Self { image_id, caption: caption.trim().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caption(fields: Value, prompt: Option<&str>) -> String {
        let Value::Object(fields) = fields else { unreachable!() };
        CaptionResult::new(&fields, prompt).unwrap().caption
    }

    #[test]
    fn caption_has_no_prompt_and_is_empty_after_an_error() {
        let fields = json!({"id": 1, "caption": "a picture of a cat"});
        assert_eq!(caption(fields.clone(), Some("A picture of ")), "a cat");
        assert_eq!(caption(fields.clone(), None), "a picture of a cat");
        assert_eq!(caption(fields, Some("photo")), "a picture of a cat");
        assert_eq!(caption(json!({"id": 1, "error": {}}), Some("photo")), "");
    }
}
