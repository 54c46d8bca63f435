//! The names of images by number.

use std::str::FromStr;

/// The pattern of the names of image files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImagePattern {
    before: String,
    digits: usize,
    after: String,
}

impl ImagePattern {
    pub(crate) fn file_name(&self, image: u64) -> String {
        format!("{}{image:0digits$}{}", self.before, self.after, digits = self.digits)
    }
}

impl FromStr for ImagePattern {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, Self::Err> {
        let invalid = || {
            format!("invalid image pattern {pattern:?}: must contain {{image_id}} or {{image_id:0N}} once")
        };
        let (before, rest) = pattern.split_once("{image_id").ok_or_else(invalid)?;
        let (width, after) = rest.split_once('}').ok_or_else(invalid)?;
        let digits = match width.strip_prefix(":0") {
            None if width.is_empty() => 1,
            None => return Err(invalid()),
            Some(digits) => {
                digits.parse().ok().filter(|digits| (1..=20).contains(digits)).ok_or_else(invalid)?
            }
        };
        if after.contains("{image_id") {
            return Err(invalid());
        }
        Ok(Self { before: before.to_owned(), digits, after: after.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_gives_file_names_of_coco() {
        let name = |pattern: &str| pattern.parse::<ImagePattern>().map(|pattern| pattern.file_name(42));
        assert_eq!(name("COCO_val2014_{image_id:012}.jpg").unwrap(), "COCO_val2014_000000000042.jpg");
        assert_eq!(name("{image_id}/image.png").unwrap(), "42/image.png");
        for invalid in ["a.jpg", "{image_id", "{image_id:x}", "{image_id:099}", "{image_id}{image_id}"] {
            assert!(name(invalid).unwrap_err().starts_with("invalid image pattern "), "{invalid}");
        }
    }
}
