//! The limits on a JSON text that are checked before decoding: the number of its values, and the
//! length of field names.
//!
//! A list of empty lists needs about ten times as much memory decoded as encoded. The decoder
//! copies an unknown field name into its path and its error. A body within the byte limit could
//! therefore need gigabytes. This check reads the bytes once and allocates nothing.

use crate::{
    error::{ErrorReason, RequestError},
    grpc::codec::MAX_MESSAGES,
};

/// The maximum number of values in a request: lists, strings and field names together. It bounds
/// the memory of decoding. The limits on images and questions are lower and checked later.
pub(crate) const MAX_VALUES: usize = 2 * MAX_MESSAGES;

/// The maximum length of a field name, in bytes. No route has a longer one.
const MAX_NAME_BYTES: usize = 200;

/// How much of a longer one an error quotes, in bytes.
const QUOTED_BYTES: usize = 100;

/// Rejects a JSON text with too many values or a long field name. `field` is the name of the text
/// in the error.
///
/// # Errors
/// A [`RequestError`] of the request.
pub(crate) fn check_bounds(json: &[u8], field: &str) -> Result<(), RequestError> {
    let Bounds { values, long_name } = Bounds::of(json);
    if let Some(name) = long_name {
        let (bytes, quoted) = (name.len(), name.get(..QUOTED_BYTES).unwrap_or(name));
        let quoted = String::from_utf8_lossy(quoted);
        return Err(RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(format_args!(
            "field name of {bytes} bytes, {MAX_NAME_BYTES} bytes allowed: {quoted}..."
        )));
    }
    if values > MAX_VALUES {
        return Err(RequestError::new(ErrorReason::PayloadTooManyValues)
            .field(field)
            .value(format!("{values} values"))
            .limit(format!("{MAX_VALUES} values")));
    }
    Ok(())
}

/// What is known of a JSON text before it is decoded.
struct Bounds<'a> {
    /// An upper bound of the number of values: each is the first or follows one of `,`, `:`, `[`
    /// and `{`.
    values: usize,
    /// The first field name that is too long.
    long_name: Option<&'a [u8]>,
}

impl<'a> Bounds<'a> {
    fn of(mut json: &'a [u8]) -> Self {
        let mut bounds = Self { values: 1, long_name: None };
        let mut last_string: &[u8] = &[];
        while let Some((first, rest)) = json.split_first() {
            json = rest;
            match first {
                b':' if last_string.len() > MAX_NAME_BYTES => {
                    bounds.long_name = Some(last_string);
                    return bounds;
                }
                b',' | b':' | b'[' | b'{' => {
                    bounds.values += 1;
                    last_string = &[];
                }
                b'"' => (last_string, json) = split_string(json),
                _ => {}
            }
        }
        bounds
    }
}

/// Splits a text that begins after the opening quote of a string: returns the string without its
/// quotes, and the rest.
fn split_string(json: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = json;
    while let Some(position) = memchr::memchr2(b'"', b'\\', rest) {
        let is_quote = rest.get(position) == Some(&b'"');
        rest = rest.get(position + 1 + usize::from(!is_quote)..).unwrap_or_default();
        if is_quote {
            let length = json.len() - rest.len() - 1;
            return (json.get(..length).unwrap_or_default(), rest);
        }
    }
    (json, &[])
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
        assert_eq!(check_bounds(lists(MAX_VALUES / 2 - 1).as_bytes(), "the body"), Ok(()));
        let error = check_bounds(lists(MAX_VALUES).as_bytes(), "the body").unwrap_err();
        assert_eq!(error.reason(), ErrorReason::PayloadTooManyValues);
    }

    #[test]
    fn separators_in_strings_are_not_counted() {
        assert_eq!(Bounds::of(br#"{"a": "[[,,::{\",,\\"}"#).values, 3);
    }

    #[test]
    fn long_field_name_is_rejected_and_quoted_in_part() {
        let object = |bytes: usize| format!(r#"{{"a": "b", "{}" : 5}}"#, "k".repeat(bytes));
        assert_eq!(check_bounds(object(200).as_bytes(), "the body"), Ok(()));
        let error = check_bounds(object(1 << 20).as_bytes(), "the body").unwrap_err();
        assert_eq!(error.reason(), ErrorReason::PayloadInvalid);
        let expected = "the body is invalid: field name of 1048576 bytes, 200 bytes allowed: ";
        assert_eq!(error.to_string(), format!("{expected}{}...", "k".repeat(100)));
    }

    #[test]
    fn long_string_is_no_field_name() {
        let long = "k".repeat(1000);
        for json in [format!(r#"["{long}"]"#), format!(r#"{{"a": "{long}", "b": 5}}"#)] {
            assert_eq!(check_bounds(json.as_bytes(), "the body"), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn count_includes_every_decoded_value(value in json()) {
            prop_assert!(Bounds::of(value.to_string().as_bytes()).values >= decoded_count(&value));
        }

        #[test]
        fn any_bytes_are_counted_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Bounds::of(&bytes).values <= bytes.len() + 1);
        }
    }
}
