//! Decoding of JSON bodies, with errors that name the field or the position in the text.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    error::{ErrorReason, RequestError},
    http::json_bounds::check_bounds,
};

/// Decodes JSON with a bounded number of values. `name` is the name of the text in errors.
///
/// # Errors
/// A [`RequestError`] with the path of the invalid field, or with line and column if the text is no
/// JSON.
pub(crate) fn read_json<T: DeserializeOwned>(json: &[u8], name: &str) -> Result<T, RequestError> {
    check_bounds(json, name)?;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let is_known = error.path().iter().next().is_some() && path != ".";
        (is_known.then_some(path), error.into_inner())
    });
    let read = read.and_then(|value| deserializer.end().map(|()| value).map_err(|error| (None, error)));
    read.map_err(|(path, error)| {
        if error.is_data() {
            let field = path.unwrap_or_else(|| name.to_owned());
            RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(error)
        } else {
            let cause = format_args!("invalid json in {name}: {error}");
            RequestError::new(ErrorReason::BodyUnreadable).cause(cause)
        }
    })
}

/// Deserializes an object and rejects lists. Derived code accepts a list in place of a struct.
///
/// # Errors
/// Those of `deserializer`.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}
