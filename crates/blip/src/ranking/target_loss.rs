//! Losses of given tokens: cross-entropy with label smoothing, as in the original repository.

use tch::{Kind, TchError, Tensor};

use crate::device::transfer::{to_device, to_host};

/// Label smoothing of the original decoder's training (`models/med.py` of BLIP).
const LABEL_SMOOTHING: f64 = 0.1;

/// A token that may follow a hypothesis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) hypothesis: i64,
    pub(crate) token: i64,
}

/// The log-probability of a target and the mean that label smoothing needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TargetLosses {
    pub(crate) log_probability: f32,
    /// Mean log-probability over the vocabulary, for the target's hypothesis.
    pub(crate) mean_log_probability: f32,
}

impl TargetLosses {
    /// Reads the losses of `targets` from `logits` `[hypotheses, vocabulary]`.
    pub(crate) fn read(logits: &Tensor, targets: &[Target]) -> Result<Vec<Self>, TchError> {
        let (device, vocabulary) = (logits.device(), logits.size2()?.1);
        let index = |numbers: Vec<i64>| to_device(&numbers, device);
        let hypotheses = index(targets.iter().map(|target| target.hypothesis).collect())?;
        let cells =
            index(targets.iter().map(|target| target.hypothesis * vocabulary + target.token).collect())?;
        let total = logits.f_logsumexp(-1, false)?;
        let mean = logits.f_mean_dim(-1, false, Kind::Float)?.f_sub(&total)?;
        let log_probabilities =
            logits.f_view([-1])?.f_index_select(0, &cells)?.f_sub(&total.f_index_select(0, &hypotheses)?)?;
        let table = Tensor::f_stack(&[log_probabilities, mean.f_index_select(0, &hypotheses)?], 1)?;
        let numbers = to_host(&table)?;
        let (pairs, _) = numbers.as_chunks::<2>();
        let losses = pairs
            .iter()
            .map(|&[log_probability, mean_log_probability]| Self { log_probability, mean_log_probability });
        Ok(losses.collect())
    }

    /// Returns the cross-entropy with a label of which a tenth is spread evenly over the
    /// vocabulary.
    pub(crate) fn smoothed(&self) -> f64 {
        let [target, mean] = [self.log_probability, self.mean_log_probability].map(f64::from);
        -(1.0 - LABEL_SMOOTHING) * target - LABEL_SMOOTHING * mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_loss_equals_the_loss_of_libtorch() {
        let logits = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.0, 3.0, 1.0, -2.0, 0.25]).view([2, 4]);
        let targets = [(0, 2), (1, 3), (0, 0)].map(|(hypothesis, token)| Target { hypothesis, token });
        let found = TargetLosses::read(&logits, &targets).unwrap();
        for (found, target) in found.iter().zip(targets) {
            let row = logits.get(target.hypothesis).unsqueeze(0);
            let label = Tensor::from_slice(&[target.token]);
            let expected =
                row.cross_entropy_loss::<Tensor>(&label, None, tch::Reduction::Mean, -100, LABEL_SMOOTHING);
            assert!((found.smoothed() - expected.double_value(&[])).abs() < 1e-6);
        }
    }
}
