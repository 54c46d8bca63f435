//! Keys and values of all layers in one product.
//!
//! The layers project the same encoder states. One product of all weights needs one launch, and
//! fills the device better than a small product for each layer.

use tch::{TchError, Tensor};

use crate::{
    layers::{dense::Dense, linear::Linear},
    text::layer::TextLayer,
};

/// The largest number of encoder states that are projected together. By count, the product of one
/// layer fills a large GPU with more of them, and keys and values of all layers take 37 KB each.
const MAX_STATES: i64 = 1024;

/// The projections of all layers of a text network.
#[derive(Debug)]
pub(crate) struct JoinedProjection {
    /// Outputs are those of the layers, one behind the other.
    linear: Linear,
    layers: i64,
}

impl JoinedProjection {
    /// Joins the projections of `layers`, whose weights become parts of the joined one.
    ///
    /// Returns `None` if the layers have other products than LibTorch's.
    pub(crate) fn join(layers: &mut [TextLayer]) -> Result<Option<Self>, TchError> {
        let mut plain: Vec<&mut Linear> = Vec::with_capacity(layers.len());
        let count = layers.len() as i64;
        for layer in layers {
            let Dense::Plain(linear, _) = &mut layer.cross_attention.key_value else { return Ok(None) };
            plain.push(linear);
        }
        let Some(outputs) = plain.first().map(|linear| linear.bias.size1()).transpose()? else {
            return Ok(None);
        };
        let joined = Linear::fused(&plain.iter().map(|linear| &**linear).collect::<Vec<_>>())?;
        for (index, linear) in (0..).zip(plain) {
            *linear = joined.outputs(index * outputs, outputs)?;
        }
        Ok(Some(Self { linear: joined, layers: count }))
    }

    /// Projects encoder states `[rows, positions, encoder dim]` to keys and values, `[rows,
    /// positions, layers, 2 * hidden]`. Returns `None` if there are too many.
    pub(crate) fn project(&self, encoder_states: &Tensor) -> Result<Option<Tensor>, TchError> {
        let (rows, positions, _) = encoder_states.size3()?;
        if rows * positions > MAX_STATES {
            return Ok(None);
        }
        self.linear.forward(encoder_states)?.f_view([rows, positions, self.layers, -1]).map(Some)
    }

    /// Writes the result of [`Self::project`] to `all`. Returns false if there are too many states.
    pub(crate) fn project_into(&self, encoder_states: &Tensor, all: &Tensor) -> Result<bool, TchError> {
        let (rows, positions, inputs) = encoder_states.size3()?;
        if rows * positions > MAX_STATES {
            return Ok(false);
        }
        let Linear { weight, bias } = &self.linear;
        let (states, out) = (encoder_states.f_view([-1, inputs])?, all.f_view([rows * positions, -1])?);
        let _written = bias.f_addmm_out(&out, &states, &weight.f_transpose(0, 1)?)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::{layers::weight_path::WeightPath, tests::golden_files::golden, text::encoder::TextEncoder};

    /// Loads the layers of a text encoder with a width of 32.
    fn layers(kind: Kind) -> Vec<TextLayer> {
        let golden = golden("untied_head");
        let root = WeightPath::root(golden.checkpoint.weights(), Device::Cpu, kind);
        TextEncoder::load(&root, golden.checkpoint.config(), Device::Cpu, kind).unwrap().layers
    }

    #[test]
    fn joined_projections_are_those_of_the_layers() {
        let mut layers = layers(Kind::Half);
        let states = Tensor::randn([2, 7, 32], (Kind::Float, Device::Cpu)).to_kind(Kind::Half);
        let project = |layers: &[TextLayer]| -> Vec<Tensor> {
            layers.iter().map(|layer| layer.cross_attention.project(&states).unwrap()).collect()
        };
        let before = project(&layers);
        let joined = JoinedProjection::join(&mut layers).unwrap().unwrap();
        let all = joined.project(&states).unwrap().unwrap();
        assert_eq!(all.size(), [2, 7, before.len() as i64, 64]);
        let written = all.zeros_like();
        assert!(joined.project_into(&states, &written).unwrap());
        assert_eq!(written, all);
        for (index, (before, after)) in before.iter().zip(project(&layers)).enumerate() {
            assert_eq!(*before, after, "the weights of layer {index}");
            let difference = (all.select(2, index as i64) - before).abs().max().double_value(&[]);
            assert!(difference < 0.02, "layer {index}: {difference}");
        }
    }

    #[test]
    fn many_states_are_not_projected_together() {
        let joined = JoinedProjection::join(&mut layers(Kind::Half)).unwrap().unwrap();
        for (rows, is_joined) in [(64, true), (65, false)] {
            let states = Tensor::zeros([rows, 16, 32], (Kind::Half, Device::Cpu));
            assert_eq!(joined.project(&states).unwrap().is_some(), is_joined);
            let all = Tensor::zeros([rows, 16, joined.layers, 64], (Kind::Half, Device::Cpu));
            assert_eq!(joined.project_into(&states, &all).unwrap(), is_joined);
        }
    }

    #[test]
    fn packed_layers_are_not_joined() {
        assert!(JoinedProjection::join(&mut layers(Kind::Float)).unwrap().is_none());
        assert!(JoinedProjection::join(&mut []).unwrap().is_none());
    }
}
