//! Input tensors and their elements.

use std::fmt::Display;

use bytes::Bytes;

use crate::{
    error::{ErrorReason, RequestError},
    open_inference::{element_coding, signature::BYTES},
    request::{
        image_text::{source_of_bytes, source_of_text},
        item::ImageSource,
    },
};

/// The maximum number of elements of a tensor. The limits on images and questions are lower and
/// checked later.
const MAX_ELEMENTS: usize = 1 << 16;

/// An input tensor of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct InputTensor {
    /// The name.
    pub name: String,
    /// The datatype.
    pub datatype: String,
    /// The shape.
    pub shape: Vec<i64>,
    /// The elements.
    pub elements: Elements,
}

/// The elements of a tensor in one of their codings.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// All elements in one buffer, each after its length.
    Raw(Bytes),
    /// The elements.
    Bytes(Vec<Bytes>),
    /// The elements as texts of JSON, in which an image is in base64 or a URL.
    Texts(Vec<String>),
}

impl InputTensor {
    /// Returns the images of the tensor.
    ///
    /// # Errors
    /// A [`RequestError`] that names the tensor.
    pub(crate) fn images(self) -> Result<Vec<ImageSource>, RequestError> {
        Ok(match self.checked()? {
            Elements::Texts(texts) => texts.iter().map(|text| source_of_text(text)).collect(),
            Elements::Bytes(elements) => elements.into_iter().map(source_of_bytes).collect(),
            Elements::Raw(_) => Vec::new(),
        })
    }

    /// Returns the texts of the tensor.
    ///
    /// # Errors
    /// A [`RequestError`] that names the tensor.
    pub(crate) fn texts(self) -> Result<Vec<String>, RequestError> {
        let field = self.field();
        match self.checked()? {
            Elements::Texts(texts) => Ok(texts),
            Elements::Bytes(elements) => {
                let text = |(index, element): (usize, Bytes)| {
                    String::from_utf8(element.into()).map_err(|error| {
                        invalid(&field, format_args!("element {index} is no UTF-8: {}", error.utf8_error()))
                    })
                };
                elements.into_iter().enumerate().map(text).collect()
            }
            Elements::Raw(_) => Ok(Vec::new()),
        }
    }

    /// Returns the elements, of which there are as many as the shape has. None is raw.
    fn checked(self) -> Result<Elements, RequestError> {
        let field = self.field();
        if self.datatype != BYTES {
            return Err(invalid(&field, format_args!("datatype {}, expected {BYTES}", self.datatype)));
        }
        let Some(count) = self.count() else {
            let cause = format_args!("shape {:?}, at most {MAX_ELEMENTS} elements allowed", self.shape);
            return Err(invalid(&field, cause));
        };
        let elements = match self.elements {
            Elements::Raw(raw) => {
                Elements::Bytes(element_coding::decode(raw, count).map_err(|cause| invalid(&field, cause))?)
            }
            elements => elements,
        };
        let found = match &elements {
            Elements::Bytes(elements) => elements.len(),
            Elements::Texts(texts) => texts.len(),
            Elements::Raw(_) => 0,
        };
        if found != count {
            return Err(invalid(&field, format_args!("{found} elements, its shape has {count}")));
        }
        Ok(elements)
    }

    /// Returns the number of elements of the shape, if it is allowed.
    fn count(&self) -> Option<usize> {
        let product = |count: usize, size: &i64| count.checked_mul(usize::try_from(*size).ok()?);
        self.shape.iter().try_fold(1, product).filter(|count| *count <= MAX_ELEMENTS)
    }

    fn field(&self) -> String {
        format!("inputs.{}", self.name)
    }
}

/// Returns the error of a field.
pub(crate) fn invalid(field: &str, cause: impl Display) -> RequestError {
    RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[i64], elements: Elements) -> InputTensor {
        InputTensor {
            name: "question".to_owned(),
            datatype: BYTES.to_owned(),
            shape: shape.to_vec(),
            elements,
        }
    }

    fn texts(shape: &[i64], elements: &[&'static [u8]]) -> Result<Vec<String>, String> {
        let elements = elements.iter().map(|element| Bytes::from_static(element)).collect();
        tensor(shape, Elements::Bytes(elements)).texts().map_err(|error| error.to_string())
    }

    #[test]
    fn shape_must_have_the_number_of_elements() {
        assert_eq!(texts(&[2, 1], &[b"a", b"b"]), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(texts(&[0], &[]), Ok(Vec::new()));
        let error = texts(&[3], &[b"a"]).unwrap_err();
        assert_eq!(error, "inputs.question is invalid: 1 elements, its shape has 3");
        for shape in [vec![-1], vec![1 << 17], vec![i64::MAX, i64::MAX], vec![2, -3]] {
            assert!(
                texts(&shape, &[b"a"]).unwrap_err().contains("at most 65536 elements allowed"),
                "{shape:?}"
            );
        }
    }

    #[test]
    fn other_datatype_and_other_encoding_are_rejected() {
        let numbers = InputTensor { datatype: "FP32".to_owned(), ..tensor(&[1], Elements::Bytes(vec![])) };
        let error = numbers.texts().unwrap_err().to_string();
        assert_eq!(error, "inputs.question is invalid: datatype FP32, expected BYTES");
        let error = texts(&[2], &[b"a", b"\xff"]).unwrap_err();
        assert!(error.contains("element 1 is no UTF-8"), "{error}");
    }

    #[test]
    fn raw_elements_are_decoded() {
        let raw = Elements::Raw(Bytes::from_static(b"\x01\0\0\0a"));
        assert_eq!(tensor(&[1], raw.clone()).texts(), Ok(vec!["a".to_owned()]));
        assert!(tensor(&[2], raw).texts().unwrap_err().to_string().contains("only 1 of 2 elements"));
    }
}
