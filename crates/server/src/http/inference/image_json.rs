//! An image in JSON: a URL, or the bytes of a file in base64.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use utoipa::ToSchema;

use crate::request::{image_text::decode, item::ImageSource};

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
