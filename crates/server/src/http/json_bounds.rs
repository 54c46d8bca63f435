//! The limit on the number of values in a JSON text, checked before decoding.
//!
//! A list of empty lists needs about ten times as much memory decoded as encoded. A body within the
//! byte limit could therefore need gigabytes. Counting reads the bytes and allocates nothing.

use crate::{
    error::{ErrorReason, RequestError},
    grpc::codec::MAX_MESSAGES,
};

/// The maximum number of values in a request: lists, strings and field names together. It bounds
/// the memory of decoding. The limits on images and questions are lower and checked later.
pub(crate) const MAX_VALUES: usize = 2 * MAX_MESSAGES;

/// Rejects a JSON text with too many values. `field` is the name of the text in the error.
///
/// # Errors
/// A [`RequestError`] of the request.
pub(crate) fn check_value_count(json: &[u8], field: &str) -> Result<(), RequestError> {
    let values = count_values(json);
    if values > MAX_VALUES {
        return Err(RequestError::new(ErrorReason::PayloadTooManyValues)
            .field(field)
            .value(format!("{values} values"))
            .limit(format!("{MAX_VALUES} values")));
    }
    Ok(())
}

/// Returns an upper bound of the number of values: each is the first or follows one of `,`, `:`,
/// `[` and `{`.
fn count_values(mut json: &[u8]) -> usize {
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

/// Returns the text after a string. `json` begins after the opening quote of the string.
fn after_string(mut json: &[u8]) -> &[u8] {
    while let Some(position) = memchr::memchr2(b'"', b'\\', json) {
        let escaped = usize::from(json.get(position) == Some(&b'\\'));
        json = json.get(position + 1 + escaped..).unwrap_or_default();
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

    /// Returns the number of values and field names in `value`.
    fn decoded_count(value: &Value) -> usize {
        1 + match value {
            Value::Array(values) => values.iter().map(decoded_count).sum(),
            Value::Object(fields) => fields.values().map(|value| 1 + decoded_count(value)).sum(),
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
    fn small_text_with_many_values_is_rejected() {
        let lists = |count: usize| format!("[{}]", vec!["[]"; count].join(","));
        assert_eq!(check_value_count(lists(MAX_VALUES / 2 - 1).as_bytes(), "the body"), Ok(()));
        let error = check_value_count(lists(MAX_VALUES).as_bytes(), "the body").unwrap_err();
        assert_eq!(error.reason(), ErrorReason::PayloadTooManyValues);
    }

    #[test]
    fn separators_in_strings_are_not_counted() {
        assert_eq!(count_values(br#"{"a": "[[,,::{\",,\\"}"#), 3);
    }

    proptest! {
        #[test]
        fn count_includes_every_decoded_value(value in json()) {
            prop_assert!(count_values(value.to_string().as_bytes()) >= decoded_count(&value));
        }

        #[test]
        fn any_bytes_are_counted_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(count_values(&bytes) <= bytes.len() + 1);
        }
    }
}
