//! Whole numbers in JSON, in any notation.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// Decodes an unsigned integer or null. To JSON Schema, and for some JSON writers, 3.0 is the
/// integer 3.
///
/// # Errors
/// Those of `deserializer`, and a number with a fraction or outside the range of `T`.
pub(crate) fn whole_number<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    struct WholeVisitor<T>(PhantomData<T>);

    impl<T: TryFrom<u64>> Visitor<'_> for WholeVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an integer from 0 to {}", u64::MAX >> (64 - 8 * size_of::<T>().clamp(1, 8)))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            let invalid = |_| E::invalid_value(Unexpected::Unsigned(number), &self);
            T::try_from(number).map(Some).map_err(invalid)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            match u64::try_from(number) {
                Ok(number) => self.visit_u64(number),
                Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
            }
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
            // The first number above u64 is a power of two, which f64 represents.
            if number.fract() == 0.0 && (0.0..u64::MAX as f64).contains(&number) {
                return self.visit_u64(number as u64);
            }
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }

    deserializer.deserialize_any(WholeVisitor(PhantomData))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<T: TryFrom<u64>>(json: &str) -> Result<Option<T>, String> {
        whole_number(&mut serde_json::Deserializer::from_str(json)).map_err(|error| error.to_string())
    }

    #[test]
    fn whole_float_is_an_integer() {
        for json in ["3", "3.0", "3e0", "0.3e1", "30e-1"] {
            assert_eq!(read::<u32>(json), Ok(Some(3)), "{json}");
        }
        assert_eq!((read::<u32>("null"), read::<u32>("-0.0")), (Ok(None), Ok(Some(0))));
        assert_eq!(read::<u64>("18446744073709551615"), Ok(Some(u64::MAX)));
    }

    #[test]
    fn fraction_and_number_out_of_range_are_rejected() {
        for json in ["3.5", "-1", "-1.0", "4294967296", "4294967296.0", "1e300", "\"3\"", "true", "[3]"] {
            let error = read::<u32>(json).unwrap_err();
            assert!(error.contains("expected an integer from 0 to 4294967295"), "{json}: {error}");
        }
        let error = read::<u64>("18446744073709551616").unwrap_err();
        assert!(error.contains("expected an integer from 0 to 18446744073709551615"), "{error}");
    }

    proptest! {
        #[test]
        fn both_notations_are_equal(number in any::<u32>()) {
            prop_assert_eq!(read::<u32>(&format!("{number}")), Ok(Some(number)));
            prop_assert_eq!(read::<u32>(&format!("{number}.0")), Ok(Some(number)));
        }
    }
}
