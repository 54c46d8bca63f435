//! The coding of a BYTES tensor: each element is its length, a little-endian `u32`, and its bytes.

use bytes::{Buf as _, Bytes};

/// The size of the length of an element, in bytes.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Returns the elements in `raw`, which are slices of it.
///
/// # Errors
/// What is wrong, if the lengths do not give `count` elements that fill `raw`.
pub(crate) fn decode(mut raw: Bytes, count: usize) -> Result<Vec<Bytes>, String> {
    let total = raw.len();
    // Each element has a length, so that a large count cannot allocate more than the message has.
    let mut elements = Vec::with_capacity(count.min(total / LENGTH_BYTES));
    while elements.len() < count {
        let index = elements.len();
        if raw.len() < LENGTH_BYTES {
            return Err(format!("{total} bytes have only {index} of {count} elements"));
        }
        let length = usize::try_from(raw.get_u32_le()).unwrap_or(usize::MAX);
        if length > raw.len() {
            let rest = raw.len();
            return Err(format!("element {index} has {length} bytes, {rest} bytes follow its length"));
        }
        elements.push(raw.split_to(length));
    }
    if raw.is_empty() { Ok(elements) } else { Err(format!("{} bytes after the last element", raw.len())) }
}

/// Returns the coding of `elements`.
pub(crate) fn encode<'a>(elements: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut raw = Vec::new();
    for element in elements {
        // No result has 4 GiB.
        let length = u32::try_from(element.len()).unwrap_or(u32::MAX);
        raw.extend_from_slice(&length.to_le_bytes());
        raw.extend_from_slice(element);
    }
    raw
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn length_beyond_the_message_is_rejected() {
        let decoded = |raw: &'static [u8], count| decode(Bytes::from_static(raw), count);
        assert_eq!(decoded(b"\x02\0\0\0ab\0\0\0\0", 2), Ok(vec!["ab".into(), Bytes::new()]));
        let error = decoded(b"\xff\xff\xff\xffab", 1).unwrap_err();
        assert_eq!(error, "element 0 has 4294967295 bytes, 2 bytes follow its length");
        assert_eq!(decoded(b"\x01\0\0", 1).unwrap_err(), "3 bytes have only 0 of 1 elements");
        assert_eq!(decoded(b"\0\0\0\0", usize::MAX).unwrap_err().split(' ').next(), Some("4"));
        assert_eq!(decoded(b"\0\0\0\0x", 1).unwrap_err(), "1 bytes after the last element");
    }

    proptest! {
        #[test]
        fn elements_survive_their_coding(elements in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let raw = encode(elements.iter().map(Vec::as_slice));
            let decoded = decode(raw.into(), elements.len()).unwrap();
            prop_assert!(decoded.iter().zip(&elements).all(|(one, other)| one == other));
            prop_assert_eq!(decoded.len(), elements.len());
        }

        #[test]
        fn any_bytes_decode_without_panic(raw in proptest::collection::vec(any::<u8>(), 0..50), count in 0_usize..9) {
            let _ = decode(raw.into(), count);
        }
    }
}
