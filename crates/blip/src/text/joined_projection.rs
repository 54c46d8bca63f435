//! Keys and values of all layers in one product.
//!
//! The layers project the same encoder states. One product of all weights needs one launch, and
//! fills the device better than a small product for each layer.

use tch::{TchError, Tensor};

use crate::{
    layers::{dense::Dense, linear::Linear},
    text::layer::TextLayer,
};

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
    pub(crate) fn new(layers: &mut [TextLayer]) -> Result<Option<Self>, TchError> {
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
    /// positions, layers, 2 * hidden]`.
    pub(crate) fn project(&self, encoder_states: &Tensor) -> Result<Tensor, TchError> {
        let (rows, positions, _) = encoder_states.size3()?;
        self.linear.forward(encoder_states)?.f_view([rows, positions, self.layers, -1])
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
        let joined = JoinedProjection::new(&mut layers).unwrap().unwrap();
        let all = joined.project(&states).unwrap();
        assert_eq!(all.size(), [2, 7, before.len() as i64, 64]);
        for (index, (before, after)) in before.iter().zip(project(&layers)).enumerate() {
            assert_eq!(*before, after, "the weights of layer {index}");
            let difference = (all.select(2, index as i64) - before).abs().max().double_value(&[]);
            assert!(difference < 0.02, "layer {index}: {difference}");
        }
    }

    #[test]
    fn packed_layers_are_not_joined() {
        assert!(JoinedProjection::new(&mut layers(Kind::Float)).unwrap().is_none());
        assert!(JoinedProjection::new(&mut []).unwrap().is_none());
    }
}
