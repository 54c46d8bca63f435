//! Sizes and times with units, such as `4GiB` and `500ms`.
//!
//! A number without a unit is in the unit of its setting.

use std::time::Duration;

use bytesize::ByteSize;

/// The longest time with a unit, and the longest time of an option: 1,000 years.
const MAX_TIME: Duration = Duration::from_secs(1000 * 365 * 24 * 60 * 60);

/// The unit of a setting or an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Returns the unit that the placeholder of a value stands for.
    #[must_use]
    pub fn of_placeholder(placeholder: &str) -> Option<Self> {
        match placeholder {
            "BYTES" => Some(Self::Bytes),
            "MS" => Some(Self::Milliseconds),
            "SECONDS" => Some(Self::Seconds),
            _ => None,
        }
    }

    /// Returns the values allowed, in words.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Bytes => "a whole number, or a size such as 4GiB",
            Self::Milliseconds | Self::Seconds => "a whole number, or a time such as 500ms, 30s or 2m",
        }
    }

    /// Returns the number of `text` in this unit. A text that is no number with a unit stays as it
    /// is.
    ///
    /// # Errors
    /// An unknown unit, or a time that is no whole number in this unit.
    pub fn to_number(self, text: &str) -> Result<String, String> {
        let text = text.trim();
        let has_unit = text.starts_with(|first: char| first.is_ascii_digit())
            && text.ends_with(|last: char| last.is_ascii_alphabetic());
        // 0x10 is a number of the readers of files.
        if !has_unit || text.starts_with("0x") {
            return Ok(text.to_owned());
        }
        match self {
            Self::Bytes => match text.parse::<ByteSize>() {
                Ok(size) => Ok(size.as_u64().to_string()),
                Err(_) => Err(format!("no size: {text:?}, expected {}", self.expected())),
            },
            Self::Milliseconds | Self::Seconds => {
                let time = parse_time(text)?;
                let unit = if self == Self::Seconds { 1000 } else { 1 };
                let milliseconds = time.as_millis();
                let is_whole =
                    time.subsec_nanos().is_multiple_of(1_000_000) && milliseconds.is_multiple_of(unit);
                let name = if self == Self::Seconds { "seconds" } else { "milliseconds" };
                is_whole
                    .then(|| (milliseconds / unit).to_string())
                    .ok_or_else(|| format!("no whole number of {name}: {text:?}"))
            }
        }
    }
}

/// Parses a time of an option: a whole number of seconds, or a number with a unit.
///
/// # Errors
/// A text that is neither.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => check_time(Duration::from_secs(seconds)),
        Err(_) => parse_time(text.trim()),
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    // The library reads M as months.
    let time = humantime::parse_duration(text).ok().filter(|_| !text.contains('M'));
    time.ok_or_else(|| format!("no time: {text:?}, expected {}", Unit::Seconds.expected()))
        .and_then(check_time)
}

/// Rejects times that no clock can count.
fn check_time(time: Duration) -> Result<Duration, String> {
    if time <= MAX_TIME {
        return Ok(time);
    }
    Err(format!("{} seconds are too long, at most {} allowed", time.as_secs(), MAX_TIME.as_secs()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_with_units_are_converted() {
        for (unit, text, number) in [
            (Unit::Bytes, "4GiB", "4294967296"),
            (Unit::Bytes, "512 MiB", "536870912"),
            (Unit::Bytes, "1.5KiB", "1536"),
            (Unit::Bytes, "2MB", "2000000"),
            (Unit::Bytes, "64kib", "65536"),
            (Unit::Seconds, "2m", "120"),
            (Unit::Seconds, "1h 30m", "5400"),
            (Unit::Seconds, "3000ms", "3"),
            (Unit::Milliseconds, "500ms", "500"),
            (Unit::Milliseconds, "2s", "2000"),
            // As they are: a number, and what the parser of the setting rejects.
            (Unit::Bytes, "7", "7"),
            (Unit::Bytes, "0x10", "0x10"),
            (Unit::Seconds, "soon", "soon"),
            (Unit::Seconds, "-1s", "-1s"),
        ] {
            assert_eq!(unit.to_number(text).as_deref(), Ok(number), "{text}");
        }
    }

    #[test]
    fn unknown_unit_and_broken_number_are_errors() {
        for (unit, text, words) in [
            (Unit::Bytes, "4GiBs", "no size"),
            (Unit::Bytes, "500ms", "4GiB"),
            (Unit::Seconds, "500ms", "no whole number of seconds"),
            (Unit::Milliseconds, "10us", "no whole number of milliseconds"),
            (Unit::Seconds, "4GiB", "no time"),
            (Unit::Seconds, "2M", "no time"),
            (Unit::Seconds, "20000years", "too long"),
            (Unit::Seconds, "99999999999999999999s", "no time"),
        ] {
            let error = unit.to_number(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn time_of_an_option_is_in_seconds_unless_it_has_a_unit() {
        for (text, milliseconds) in [("5", 5000), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(parse_seconds(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "soon", "-1", "5 parsecs"] {
            assert!(parse_seconds(text).unwrap_err().contains("500ms"), "{text}");
        }
        assert!(parse_seconds("99999999999999").unwrap_err().contains("too long"));
    }

    proptest! {
        #[test]
        fn number_without_unit_stays_as_it_is(number: u64) {
            let text = number.to_string();
            for unit in [Unit::Bytes, Unit::Milliseconds, Unit::Seconds] {
                prop_assert_eq!(unit.to_number(&text), Ok(text.clone()));
            }
        }

        #[test]
        fn whole_number_with_a_unit_is_a_product(number in 0_u64..1 << 20) {
            for (suffix, factor) in [("B", 1), ("kB", 1000), ("KiB", 1 << 10), ("GiB", 1 << 30)] {
                let product = (number * factor).to_string();
                prop_assert_eq!(Unit::Bytes.to_number(&format!("{number}{suffix}")), Ok(product));
            }
            for (suffix, factor) in [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)] {
                let product = (number * factor).to_string();
                prop_assert_eq!(Unit::Milliseconds.to_number(&format!("{number}{suffix}")), Ok(product));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in prop_oneof![any::<String>(), "[0-9][0-9. ]{0,24}[a-zA-Zµ]{1,6}"]) {
            for unit in [Unit::Bytes, Unit::Milliseconds, Unit::Seconds] {
                let _ = unit.to_number(&text);
            }
            let _ = parse_seconds(&text);
        }
    }
}
