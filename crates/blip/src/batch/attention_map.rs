//! Where the model looked for an answer.

/// Weights of the patches of an image, which show where the model looked for an answer.
///
/// See `docs/decisions/attention-map.md`.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMap {
    /// Number of rows of patches.
    pub rows: u32,
    /// Number of patches in a row.
    pub columns: u32,
    /// A weight for each patch, row by row from the top left. Each is at least 0, and their sum is
    /// 1.
    pub weights: Vec<f32>,
}

impl AttentionMap {
    /// Creates the map of an image of `grid` by `grid` patches from the attention to its tokens.
    ///
    /// The class token comes first. It has no place in the image, so its weight is left out and the
    /// others are scaled to the sum 1.
    ///
    /// Returns `None` if there is not a weight for each token, or if no such scale exists: a weight
    /// is not finite, or all weights are 0.
    pub(crate) fn of_tokens(grid: i64, weights: &[f32]) -> Option<Self> {
        let side = u32::try_from(grid).ok()?;
        let (_class, patches) = weights.split_first()?;
        let total: f64 = patches.iter().copied().map(f64::from).sum();
        let is_complete = patches.len() as i64 == grid * grid;
        let scaled = |weight: &f32| (f64::from(*weight) / total) as f32;
        (is_complete && total.is_finite() && total > 0.0).then(|| Self {
            rows: side,
            columns: side,
            weights: patches.iter().map(scaled).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patches_keep_their_order_and_class_token_is_left_out() {
        let map = AttentionMap::of_tokens(2, &[0.5, 0.05, 0.1, 0.15, 0.2]).unwrap();
        assert_eq!((map.rows, map.columns), (2, 2));
        for (found, expected) in map.weights.iter().zip([0.1, 0.2, 0.3, 0.4]) {
            assert!((found - expected).abs() < 1e-6, "{:?}", map.weights);
        }
    }

    #[test]
    fn weights_without_a_scale_have_no_map() {
        let map = |weights: &[f32]| AttentionMap::of_tokens(2, weights);
        assert_eq!(map(&[1.0, 0.0, 0.0, 0.0, 0.0]), None);
        assert_eq!(map(&[0.0, 1.0, f32::NAN, 0.0, 0.0]), None);
        assert_eq!(map(&[0.0, 1.0, f32::INFINITY, 0.0, 0.0]), None);
        assert_eq!(map(&[0.0, 1.0, 0.0, 0.0]), None, "one weight is missing");
        assert_eq!(map(&[]), None);
    }

    proptest! {
        #[test]
        fn weights_of_any_attention_have_sum_1(grid in 1i64..30, seed in prop::collection::vec(1e-9f32..1.0, 901)) {
            let weights = &seed[..(grid * grid + 1) as usize];
            let map = AttentionMap::of_tokens(grid, weights).unwrap();
            prop_assert_eq!(map.weights.len(), weights.len() - 1);
            let total: f64 = map.weights.iter().copied().map(f64::from).sum();
            prop_assert!((total - 1.0).abs() < 1e-5, "{}", total);
            prop_assert!(map.weights.iter().all(|&weight| weight >= 0.0));
        }
    }
}
