//! Scaled dot-product attention over heads, and the additive mask that hides padding.

use tch::{Device, Kind, TchError, Tensor};

use crate::device::transfer::to_device;

/// On CUDA the width of a mask is a multiple of this. LibTorch's attention copies other masks in
/// each layer.
const CUDA_MASK_STEP: u64 = 8;

/// Returns `softmax(q k^T / sqrt(head dim) + mask) v`. All tensors are
/// `[rows, heads, positions, head dim]`.
///
/// The mask has [`mask_width`] columns. The kernels on CUDA are flash attention without a mask, and
/// memory-efficient attention with one. See `docs/decisions/cuda-attention.md`.
pub(crate) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor, TchError> {
    let positions = key.size4()?.2;
    let mask = mask.map(|mask| mask.f_narrow(3, 0, positions)).transpose()?;
    Tensor::f_scaled_dot_product_attention(query, key, value, mask, 0.0, false, None, false)
}

/// Returns the number of columns of a mask for `positions` keys on `device`.
pub(crate) fn mask_width(positions: i64, device: Device) -> i64 {
    match device {
        Device::Cuda(_) => (positions.max(0) as u64).next_multiple_of(CUDA_MASK_STEP) as i64,
        _ => positions,
    }
}

/// Returns a view of `[rows, positions, heads * head dim]` as `[rows, heads, positions, head dim]`.
pub(crate) fn split_heads(states: &Tensor, heads: i64) -> Result<Tensor, TchError> {
    let (rows, positions, width) = states.size3()?;
    states.f_view([rows, positions, heads, width / heads])?.f_transpose(1, 2)
}

/// Converts `[rows, heads, positions, head dim]` to `[rows, positions, heads * head dim]`.
pub(crate) fn merge_heads(states: &Tensor) -> Result<Tensor, TchError> {
    let (rows, heads, positions, head_dim) = states.size4()?;
    states.f_transpose(1, 2)?.f_reshape([rows, positions, heads * head_dim])
}

/// Returns the mask value of a hidden position. It is so low that a sum with any score stays finite
/// or becomes minus infinity. The attention weight is exactly 0 in both cases.
pub(crate) fn lowest(kind: Kind) -> f64 {
    match kind {
        Kind::Half => -65504.0,
        _ => f64::from(f32::MIN / 2.0),
    }
}

/// Returns the addend of the scores: 0 where a row has a token, [`lowest`] where it has padding.
///
/// The shape is `[rows, 1, 1, mask width]`. Returns `None` if no row has padding.
pub(crate) fn padding_mask(lengths: &[i64], device: Device, kind: Kind) -> Result<Option<Tensor>, TchError> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if lengths.iter().all(|&length| length == longest) {
        return Ok(None);
    }
    let (width, lowest) = (mask_width(longest, device), lowest(kind) as f32);
    let values: Vec<f32> = lengths
        .iter()
        .flat_map(|&length| (0..width).map(move |position| if position < length { 0.0 } else { lowest }))
        .collect();
    let mask = to_device(&values, device)?.f_view([lengths.len() as i64, 1, 1, width])?;
    Ok(Some(mask.f_to_kind(kind)?))
}

/// Returns the addend of the scores that hides later tokens from earlier ones, `[1, 1, positions,
/// positions]`.
pub(crate) fn causal_mask(positions: i64, device: Device, kind: Kind) -> Result<Tensor, TchError> {
    Tensor::f_full([1, 1, positions, positions], lowest(kind), (kind, device))?.f_triu(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_equal_length_need_no_mask() {
        assert!(padding_mask(&[4, 4, 4], Device::Cpu, Kind::Float).unwrap().is_none());
        assert!(padding_mask(&[], Device::Cpu, Kind::Float).unwrap().is_none());
    }

    #[test]
    fn masked_positions_have_zero_weight_in_every_kind() {
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
            let mask = padding_mask(&[1, 3], Device::Cpu, kind).unwrap().unwrap();
            assert_eq!(mask.size(), [2, 1, 1, 3]);
            let weights = (Tensor::zeros([2, 1, 1, 3], (kind, Device::Cpu)) + mask).softmax(-1, Kind::Float);
            let weights = Vec::<f32>::try_from(weights.flatten(0, -1)).unwrap();
            assert_eq!(&weights[..3], [1.0, 0.0, 0.0], "{kind:?}");
            assert!(weights[3..].iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-6), "{kind:?}");
        }
    }

    #[test]
    fn causal_mask_gives_later_positions_zero_weight_in_every_kind() {
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
            let mask = causal_mask(3, Device::Cpu, kind).unwrap();
            let weights = mask.softmax(-1, Kind::Float).flatten(0, -1);
            let (half, third) = (1.0 / 2.0, 1.0 / 3.0);
            for (found, expected) in Vec::<f32>::try_from(weights)
                .unwrap()
                .iter()
                .zip([1.0, 0.0, 0.0, half, half, 0.0, third, third, third])
            {
                assert!((found - expected).abs() < 1e-6, "{kind:?}");
            }
        }
    }

    #[test]
    fn mask_width_on_cuda_is_a_multiple_of_eight() {
        assert_eq!(
            [0, 1, 8, 9, 20].map(|positions| mask_width(positions, Device::Cuda(0))),
            [0, 8, 8, 16, 24]
        );
        assert_eq!(mask_width(9, Device::Cpu), 9);
    }

    #[test]
    fn wider_mask_is_narrowed_to_the_keys() {
        let tensor = |positions| Tensor::rand([2, 3, positions, 4], (Kind::Float, Device::Cpu));
        let (query, key, value) = (tensor(2), tensor(5), tensor(5));
        let mask = Tensor::rand([2, 1, 1, 8], (Kind::Float, Device::Cpu));
        let wide = attend(&query, &key, &value, Some(&mask)).unwrap();
        let exact = attend(&query, &key, &value, Some(&mask.narrow(3, 0, 5).contiguous())).unwrap();
        assert!((wide - exact).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn heads_split_and_merge_back() {
        let states = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([1, 3, 8]);
        let split = split_heads(&states, 2).unwrap();
        assert_eq!(split.size(), [1, 2, 3, 4]);
        assert_eq!(merge_heads(&split).unwrap(), states);
    }
}
