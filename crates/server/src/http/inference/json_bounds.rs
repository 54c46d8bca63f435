//! How many values a JSON text holds, counted before any of them is built.
//!
//! A list of empty lists grows some ten times when it is read, so a body within the byte limit could still take
//! gigabytes. Counting walks over the bytes and builds nothing.

use crate::{
    error::{ErrorReason, RequestError},
    grpc::codec::MAX_MESSAGES,
};

/// Most values that a request is read with, lists and strings and names of fields taken together. The limits on images
/// and questions are lower; this one bounds what can be built before they are looked at.
pub(crate) const MAX_VALUES: usize = 2 * MAX_MESSAGES;

/// Refuses a JSON text of too many values; `field` is what it is called in the message.
///
/// # Errors
/// A [`RequestError`] of the request.
pub(crate) fn check_count(json: &[u8], field: &str) -> Result<(), RequestError> {
    let values = count(json);
    if values > MAX_VALUES {
        return Err(RequestError::new(ErrorReason::PayloadTooManyValues)
            .field(field)
            .value(format!("{values} values"))
            .limit(format!("{MAX_VALUES} values")));
    }
    Ok(())
}

/// At least as many as the values that a reader would build: every one of them comes first, or after one of `,`, `:`,
/// `[` and `{`.
fn count(mut json: &[u8]) -> usize {
    let mut values = 1;
    while let Some((first, rest)) = json.split_first() {
        json = rest;
        match first {
            b',' | b':' | b'[' | b'{' => values += 1,
            b'"' => json = after_string(json),
            _ => {}
        }
    }
    values
}

/// What follows the string whose inside `json` begins with.
fn after_string(mut json: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', json) {
        let escaped = usize::from(json.get(at) == Some(&b'\\'));
        json = json.get(at + 1 + escaped..).unwrap_or_default();
        if escaped == 0 {
            return json;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn built(value: &Value) -> usize {
        1 + match value {
            Value::Array(values) => values.iter().map(built).sum(),
            Value::Object(fields) => fields.values().map(|value| 1 + built(value)).sum(),
            _ => 0,
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a\"\\\\,:\\[{\u{e9}]{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-c\"\\\\,]{0,3}", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_small_text_of_many_values_is_refused() {
        let lists = |count: usize| format!("[{}]", vec!["[]"; count].join(","));
        assert_eq!(check_count(lists(MAX_VALUES / 2 - 1).as_bytes(), "the body"), Ok(()));
        let refusal = check_count(lists(MAX_VALUES).as_bytes(), "the body").unwrap_err();
        assert_eq!(refusal.reason(), ErrorReason::PayloadTooManyValues);
    }

    #[test]
    fn what_is_inside_strings_does_not_count() {
        assert_eq!(count(br#"{"a": "[[,,::{\",,\\"}"#), 3);
    }

    proptest! {
        #[test]
        fn no_value_is_left_out(value in json()) {
            prop_assert!(count(value.to_string().as_bytes()) >= built(&value));
        }

        #[test]
        fn any_bytes_can_be_counted(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(count(&bytes) <= bytes.len() + 1);
        }
    }
}
