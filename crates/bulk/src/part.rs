//! A part of an input, for several machines that share it.

use std::{ops::Range, str::FromStr};

/// A part of an input, written as `I/N`: part I of N, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    index: usize,
    count: usize,
}

impl Part {
    /// All of the input.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Returns part `index` of `count`, or `None` if there is no such part.
    #[must_use]
    pub fn new(index: usize, count: usize) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Returns the positions of this part among `total` items, if the parts are adjacent ranges.
    #[must_use]
    pub fn range(self, total: u64) -> Range<u64> {
        let bound = |index: usize| {
            let bound = u128::from(total) * index as u128 / self.count as u128;
            u64::try_from(bound).unwrap_or(total)
        };
        bound(self.index)..bound(self.index + 1)
    }

    /// Returns whether the item at `position` belongs to this part. The parts take turns.
    #[must_use]
    pub fn contains(self, position: usize) -> bool {
        position % self.count == self.index
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers =
            text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) =
            numbers.ok_or_else(|| format!("{text:?} is not a part: expected I/N, such as 0/8"))?;
        Self::new(index, count)
            .ok_or_else(|| format!("part {index} of {count}: the first is 0, the last N - 1"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_part_is_an_error() {
        assert_eq!("0/8".parse(), Ok(Part { index: 0, count: 8 }));
        for text in ["8/8", "0/0", "1", "a/2", "-1/2"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_position_belongs_to_one_part(count in 1_usize..20, position in 0_usize..1000) {
            let parts = (0..count).filter(|index| Part::new(*index, count).unwrap().contains(position));
            prop_assert_eq!(parts.count(), 1);
        }

        #[test]
        fn ranges_are_adjacent_and_of_similar_size(count in 1_usize..20, total in 0_u64..1000) {
            let ranges: Vec<_> = (0..count).map(|index| Part::new(index, count).unwrap().range(total)).collect();
            prop_assert_eq!((ranges[0].start, ranges[count - 1].end), (0, total));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            let sizes = || ranges.iter().map(|range| range.end - range.start);
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }
    }
}
