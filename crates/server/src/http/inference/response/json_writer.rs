//! Writes a response, an object whose fields are lists, element by element.

use serde::Serialize;

use crate::http::inference::response::item_error::FailedItem;

/// The JSON of a response as far as it is complete, without what was taken.
#[derive(Debug)]
pub(crate) struct JsonWriter {
    text: Vec<u8>,
    /// The names of the fields, in their order.
    names: &'static [&'static str],
    /// The number of fields that were opened.
    opened: usize,
    /// Whether the last field has elements.
    has_elements: bool,
}

impl JsonWriter {
    pub(crate) fn new(names: &'static [&'static str]) -> Self {
        Self { text: b"{".to_vec(), names, opened: 0, has_elements: false }
    }

    /// Adds an element to the list `field`, the position of one of the names. A list before the
    /// last one is complete.
    pub(crate) fn element(&mut self, field: usize, element: &impl Serialize) {
        self.open(field);
        if std::mem::replace(&mut self.has_elements, true) {
            self.text.push(b',');
        }
        // Serialization of these types to memory does not fail.
        let _ = serde_json::to_writer(&mut self.text, element);
    }

    /// Completes the object, with the field `errors` if there are any.
    pub(crate) fn end(&mut self, errors: &[FailedItem]) {
        self.open(self.names.len().saturating_sub(1));
        self.text.push(b']');
        if !errors.is_empty() {
            self.text.extend_from_slice(b",\"errors\":");
            let _ = serde_json::to_writer(&mut self.text, errors);
        }
        self.text.push(b'}');
    }

    /// Returns the number of bytes that were not taken.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Takes all bytes.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// Opens the lists up to `field` and closes those before it.
    fn open(&mut self, field: usize) {
        for (position, name) in self.names.iter().enumerate().take(field + 1).skip(self.opened) {
            self.text.extend_from_slice(if position == 0 { b"\"" } else { b"],\"" });
            self.text.extend_from_slice(name.as_bytes());
            self.text.extend_from_slice(b"\":[");
            self.has_elements = false;
        }
        self.opened = self.opened.max(field + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorReason, RequestError};

    const NAMES: &[&str] = &["images", "texts"];

    fn written(elements: &[(usize, u32)]) -> String {
        let mut writer = JsonWriter::new(NAMES);
        let mut text = Vec::new();
        for (field, element) in elements {
            writer.element(*field, element);
            text.extend(writer.take());
        }
        writer.end(&[]);
        text.extend(writer.take());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn lists_are_complete_whichever_have_elements() {
        assert_eq!(written(&[]), r#"{"images":[],"texts":[]}"#);
        assert_eq!(written(&[(0, 1), (0, 2)]), r#"{"images":[1,2],"texts":[]}"#);
        assert_eq!(written(&[(1, 1), (1, 2)]), r#"{"images":[],"texts":[1,2]}"#);
        assert_eq!(written(&[(0, 1), (1, 2)]), r#"{"images":[1],"texts":[2]}"#);
    }

    #[test]
    fn errors_follow_the_lists() {
        let mut writer = JsonWriter::new(&["images"]);
        writer.end(&[FailedItem::new(2, 1, &RequestError::new(ErrorReason::QuestionEmpty).field("x"))]);
        let expected = r#"{"images":[],"errors":[{"image":2,"question":1,"reason":"QUESTION_EMPTY","message":"x has no text","field":"x","status":400}]}"#;
        assert_eq!(String::from_utf8(writer.take()).unwrap(), expected);
    }
}
