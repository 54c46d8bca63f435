//! An image in JSON: a URL, or the bytes of a file in base64.

use std::fmt;

use base64::{
    DecodeError, Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use utoipa::ToSchema;

use crate::request::item::ImageSource;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An image: its URL, or its bytes.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "ImageFields", untagged)]
pub(crate) enum ImageJson {
    /// An image by its URL.
    Url(ImageByUrl),
    /// An image by its bytes.
    Base64(ImageByBytes),
}

/// An image that the server fetches.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageByUrl {
    /// An `http`, `https` or `data` URL.
    #[schema(example = "https://example.com")]
    url: String,
}

/// An image in the request itself.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageByBytes {
    /// A PNG, JPEG, WebP, GIF, BMP or TIFF file in base64. White space in it is ignored. A `data:`
    /// URL with base64 is accepted too.
    #[schema(value_type = String, format = Byte, content_encoding = "base64")]
    base64: Base64Bytes,
}

/// The fields of both forms of an image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageFields {
    url: Option<String>,
    base64: Option<Base64Bytes>,
}

impl TryFrom<ImageFields> for ImageJson {
    type Error = &'static str;

    fn try_from(fields: ImageFields) -> Result<Self, &'static str> {
        match fields {
            ImageFields { url: Some(url), base64: None } => Ok(Self::Url(ImageByUrl { url })),
            ImageFields { url: None, base64: Some(base64) } => Ok(Self::Base64(ImageByBytes { base64 })),
            ImageFields { url: Some(_), base64: Some(_) } => {
                Err("both url and base64 are set, expected one of them")
            }
            ImageFields { url: None, base64: None } => {
                Err("neither url nor base64 is set, expected one of them")
            }
        }
    }
}

impl From<ImageJson> for ImageSource {
    fn from(image: ImageJson) -> Self {
        match image {
            ImageJson::Url(ImageByUrl { url }) => Self::Remote(url),
            ImageJson::Base64(ImageByBytes { base64: Base64Bytes(Ok(bytes)) }) => Self::Inline(bytes),
            ImageJson::Base64(ImageByBytes { base64: Base64Bytes(Err(cause)) }) => Self::Undecodable(cause),
        }
    }
}

/// Bytes in base64, or why a text is none. They are decoded from the body directly, without a copy
/// of the text.
struct Base64Bytes(Result<Bytes, String>);

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64Visitor;

        impl Visitor<'_> for Base64Visitor {
            type Value = Base64Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a base64 string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Base64Bytes, E> {
                // An invalid image fails alone, like one that cannot be decoded.
                Ok(Base64Bytes(decode(text).map(Bytes::from)))
            }
        }

        deserializer.deserialize_str(Base64Visitor)
    }
}

/// Decodes base64 as programs write it: with line breaks, in the alphabet for URLs, or in a `data:`
/// URL.
fn decode(text: &str) -> Result<Vec<u8>, String> {
    let encoded = payload(text)?;
    let first_error = match BASE64.decode(encoded) {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    let is_other = |byte: u8| byte.is_ascii_whitespace() || byte == b'-' || byte == b'_';
    if !encoded.bytes().any(is_other) {
        return Err(invalid(first_error));
    }
    let standard = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    });
    BASE64.decode(standard.collect::<Vec<_>>()).map_err(invalid)
}

/// Returns the base64 in a text, which a `data:` URL begins with its media type.
fn payload(text: &str) -> Result<&str, String> {
    let text = text.trim_ascii();
    if !text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return Ok(text);
    }
    let (media_type, payload) = text.split_once(',').ok_or("data URL without a comma")?;
    let encoding = media_type.rsplit(';').next().unwrap_or_default();
    if !encoding.trim_ascii().eq_ignore_ascii_case("base64") {
        return Err("data URL without base64".to_owned());
    }
    Ok(payload)
}

fn invalid(error: DecodeError) -> String {
    format!("invalid base64: {error}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_is_accepted_as_programs_write_it() {
        let file = (0..=255).cycle().take(1000).collect::<Vec<u8>>();
        let standard = base64::engine::general_purpose::STANDARD.encode(&file);
        let lines: Vec<_> =
            standard.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
        for text in [
            lines.join("\n"),
            lines.join("\r\n") + "\r\n",
            format!("data:image/png;base64,{standard}"),
            format!("DATA:image/png;name=a.png;BASE64,\n{}", lines.join("\n")),
            standard.replace('+', "-").replace('/', "_"),
            standard.trim_end_matches('=').to_owned(),
            standard,
        ] {
            assert_eq!(decode(&text).as_ref(), Ok(&file), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_base64_is_rejected_with_its_cause() {
        for (text, expected) in [
            ("a*", "invalid base64: Invalid symbol 42, offset 1"),
            ("YQ=\n*", "invalid base64"),
            ("\u{20ac}", "invalid base64"),
            ("data:image/png,abc", "data URL without base64"),
            ("data:image/png;base64", "data URL without a comma"),
        ] {
            let error = decode(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn white_space_anywhere_is_ignored(
            file in proptest::collection::vec(any::<u8>(), 0..100),
            spaces in proptest::collection::vec((any::<prop::sample::Index>(), "[ \t\r\n]{1,3}"), 0..5),
        ) {
            let mut text = base64::engine::general_purpose::STANDARD.encode(&file);
            for (index, space) in spaces {
                text.insert_str(index.index(text.len() + 1), &space);
            }
            prop_assert_eq!(decode(&text), Ok(file));
        }

        #[test]
        fn any_text_is_decoded_without_panic(text in "\\PC{0,50}") {
            let _ = decode(&text);
        }
    }
}
