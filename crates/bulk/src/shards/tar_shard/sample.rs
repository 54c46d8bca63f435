//! A sample as a record.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{record::Fields, shards::exchange::MAX_IMAGE_BYTES};

/// Maximum size of a text or JSON member, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Extensions of images. The last part of a member's extension counts.
const IMAGE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// What a member of a sample is to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The image.
    Image,
    /// The text, from the member `txt`.
    Text,
    /// Further fields, from the member `json`.
    Fields,
    /// Copied to the output and not used.
    Unused,
}

impl Role {
    pub(super) fn of(extension: &str) -> Self {
        let last = extension.rsplit('.').next().unwrap_or_default();
        match extension {
            "txt" => Self::Text,
            "json" => Self::Fields,
            _ if IMAGE_EXTENSIONS.contains(&last) => Self::Image,
            _ => Self::Unused,
        }
    }

    /// Returns the maximum size of a member, or `None` if its content is not used.
    pub(super) fn max_bytes(self) -> Option<u64> {
        match self {
            Self::Image => Some(MAX_IMAGE_BYTES),
            Self::Text | Self::Fields => Some(MAX_TEXT_BYTES),
            Self::Unused => None,
        }
    }
}

/// The fields of a sample, as its members are read.
#[derive(Debug, Default)]
pub(super) struct SampleFields {
    fields: Fields,
    image: Option<String>,
    text: Option<String>,
    error: Option<String>,
}

impl SampleFields {
    /// Returns whether the sample already has a member of this role. Of several images, the first
    /// counts.
    pub(super) fn has(&self, role: Role) -> bool {
        match role {
            Role::Image => self.image.is_some(),
            Role::Text => self.text.is_some(),
            Role::Fields => !self.fields.is_empty(),
            Role::Unused => true,
        }
    }

    /// Adds the content of a member.
    pub(super) fn add(&mut self, role: Role, extension: &str, content: Vec<u8>) {
        match role {
            Role::Image => self.image = Some(format!("data:;base64,{}", STANDARD.encode(content))),
            Role::Text => match String::from_utf8(content) {
                Ok(text) => self.text = Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => self.fail(extension, &error.to_string()),
            },
            Role::Fields => match serde_json::from_slice(&content) {
                Ok(Value::Object(fields)) => self.fields = fields,
                Ok(_) => self.fail(extension, "not a JSON object"),
                Err(error) => self.fail(extension, &error.to_string()),
            },
            Role::Unused => {}
        }
    }

    /// Notes that a member is too large.
    pub(super) fn add_too_large(&mut self, extension: &str, bytes: u64, max_bytes: u64) {
        self.fail(extension, &format!("{bytes} bytes: at most {max_bytes} allowed"));
    }

    fn fail(&mut self, extension: &str, reason: &str) {
        self.error.get_or_insert_with(|| format!("member .{extension} is invalid: {reason}"));
    }

    /// Returns the record of the sample: the fields of its JSON, `image`, `text`, and its key as
    /// `id`. The fields of results in its JSON are left out. They are not those of this run.
    ///
    /// # Errors
    /// The first member that is invalid.
    pub(super) fn into_record(self, key: &str, result_fields: &[&str]) -> Result<Fields, String> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut fields = self.fields;
        fields.retain(|field, _| field != "error" && !result_fields.contains(&field.as_str()));
        fields.insert("id".to_owned(), Value::String(key.to_owned()));
        for (field, value) in [("image", self.image), ("text", self.text)] {
            match value {
                Some(value) => drop(fields.insert(field.to_owned(), Value::String(value))),
                // A path or URL in the JSON is where the image came from, not the image.
                None if field == "image" => drop(fields.remove(field)),
                None => {}
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn record_has_fields_of_all_members() {
        let mut sample = SampleFields::default();
        sample.add(
            Role::Fields,
            "json",
            br#"{"question": "what?", "caption": "old", "image": "a"}"#.to_vec(),
        );
        sample.add(Role::Image, "jpg", b"image".to_vec());
        sample.add(Role::Text, "txt", b"a cat\n".to_vec());
        assert!(sample.has(Role::Image) && sample.has(Role::Text) && sample.has(Role::Unused));
        let record = sample.into_record("7", &["caption"]).unwrap();
        let expected =
            json!({"question": "what?", "id": "7", "image": "data:;base64,aW1hZ2U=", "text": "a cat"});
        assert_eq!(Value::Object(record), expected);
    }

    #[test]
    fn invalid_member_is_named() {
        let mut sample = SampleFields::default();
        sample.add(Role::Text, "txt", b"\xff".to_vec());
        sample.add(Role::Fields, "json", b"[]".to_vec());
        assert!(
            sample.into_record("7", &[]).unwrap_err().starts_with("member .txt is invalid: invalid utf-8")
        );
        let mut sample = SampleFields::default();
        sample.add_too_large("jpg", 100, 64);
        let error = sample.into_record("7", &[]).unwrap_err();
        assert_eq!(error, "member .jpg is invalid: 100 bytes: at most 64 allowed");
    }

    #[test]
    fn role_depends_on_extension() {
        let roles = ["jpg", "left.png", "txt", "json", "caption.txt", "blip.json", "cls"].map(Role::of);
        let unused = Role::Unused;
        assert_eq!(roles, [Role::Image, Role::Image, Role::Text, Role::Fields, unused, unused, unused]);
    }
}
