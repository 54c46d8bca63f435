//! Samples tokens with random numbers that depend only on seed, sample index and step.

use chacha20::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tch::{Kind, TchError, Tensor};

use crate::device::transfer::to_device;

/// Returns a number in `[0, 1)` for `step` of sample `sample_index`, in a row with this `seed`.
///
/// The generator is counter-based: ChaCha with the seed as key, the sample as stream and the step
/// as position. It has no state, so results do not depend on the batch composition.
pub(crate) fn uniform(seed: u64, sample_index: u64, step: u64) -> f64 {
    let mut key = [0; 32];
    for (slot, byte) in key.iter_mut().zip(seed.to_le_bytes()) {
        *slot = byte;
    }
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(sample_index);
    generator.set_word_pos(2 * u128::from(step));
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Samples one token for each hypothesis from the softmax of `logits` `[hypotheses, vocabulary]`.
///
/// `uniforms` has a number for each hypothesis. Returns token ids `[hypotheses, 1]`.
///
/// The cumulative sum is in the order of token ids, not of probabilities. Therefore rounding cannot
/// swap two tokens of almost equal probability.
pub(crate) fn sample(logits: &Tensor, uniforms: &[f64]) -> Result<Tensor, TchError> {
    let vocabulary = logits.size2()?.1;
    let cumulative = logits.f_softmax(-1, Kind::Double)?.f_cumsum(-1, None)?;
    let uniforms = to_device(uniforms, logits.device())?.f_view([-1, 1])?;
    let target = cumulative.f_narrow(1, vocabulary - 1, 1)?.f_mul(&uniforms)?;
    let passed = cumulative.f_le_tensor(&target)?.f_sum_dim_intlist(1, true, Kind::Int64)?;
    passed.f_clamp_max(vocabulary - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: u64 = 20_000;

    /// Returns the sum of `(observed - expected)^2 / expected`.
    fn chi_square(observed: &[f64], probabilities: &[f64]) -> f64 {
        let total: f64 = observed.iter().sum();
        let pairs = observed.iter().zip(probabilities);
        pairs.map(|(count, p)| (count - p * total).powi(2) / (p * total)).sum()
    }

    /// Returns how often each token of `logits` is sampled with these uniform numbers.
    fn counts(logits: &[f32], uniforms: &[f64]) -> Vec<f64> {
        let rows = Tensor::from_slice(logits).unsqueeze(0).repeat([uniforms.len() as i64, 1]);
        let mut counts = vec![0.0; logits.len()];
        for token in Vec::<i64>::try_from(sample(&rows, uniforms).unwrap().squeeze_dim(1)).unwrap() {
            counts[token as usize] += 1.0;
        }
        counts
    }

    #[test]
    fn tokens_are_sampled_with_softmax_probabilities() {
        let logits: [f32; 8] = [1.0, -0.5, 0.0, 2.0, 0.3, -3.0, 1.5, 0.9];
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let softmax: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp() / total).collect();
        // Varies the seed, the sample of a row, and the step of a sample.
        let numbers: [fn(u64) -> f64; 3] =
            [|index| uniform(index, 0, 0), |index| uniform(7, index, 3), |index| uniform(7, 3, index)];
        for number in numbers {
            let uniforms: Vec<f64> = (0..SAMPLES).map(number).collect();
            let statistic = chi_square(&counts(&logits, &uniforms), &softmax);
            assert!(statistic < 24.32, "{statistic}: exceeded once in 1,000 runs with 7 degrees of freedom");
        }
    }

    #[test]
    fn numbers_of_successive_steps_are_independent() {
        // Pairs of successive steps are uniform over the 16 cells of a grid.
        let mut cells = [0.0; 16];
        for sample_index in 0..SAMPLES {
            let [x, y] = [0, 1].map(|step| (uniform(1, sample_index, step) * 4.0) as usize);
            cells[4 * x + y] += 1.0;
        }
        let statistic = chi_square(&cells, &[1.0 / 16.0; 16]);
        assert!(statistic < 37.70, "{statistic}: exceeded once in 1,000 runs with 15 degrees of freedom");
    }

    #[test]
    fn token_with_probability_zero_is_never_sampled() {
        let hidden = f32::NEG_INFINITY;
        let almost_one = 1.0 - f64::EPSILON / 2.0;
        assert_eq!(
            counts(&[hidden, 0.5, hidden, 0.5, hidden], &[0.0, almost_one]),
            [0.0, 1.0, 0.0, 1.0, 0.0]
        );
    }

    #[test]
    fn seed_sample_and_step_each_change_the_number() {
        let numbers = [uniform(0, 0, 0), uniform(1, 0, 0), uniform(0, 1, 0), uniform(0, 0, 1)];
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert_eq!(numbers[0], uniform(0, 0, 0));
        for (index, number) in numbers.iter().enumerate() {
            assert!(!numbers[..index].contains(number), "{numbers:?}");
        }
    }
}
