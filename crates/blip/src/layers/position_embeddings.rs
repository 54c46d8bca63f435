//! Position embeddings of the vision encoder, interpolated for image sizes other than the trained
//! one.

use tch::{Kind, TchError, Tensor};

use crate::{checkpoint::config::vision::VisionConfig, error::LoadError, layers::weight_path::WeightPath};

const NAME: &str = "position_embedding";

/// Loads the table below `embeddings`, `[1, tokens, hidden]` with the class token first.
///
/// If the table has another grid of patches than the configuration, it is interpolated once. The
/// reference does this for every image with `interpolate_pos_encoding=True`.
///
/// # Errors
/// [`LoadError::TensorShape`] if the table is not a square of patches of the configured width.
pub(crate) fn load(embeddings: &WeightPath<'_>, config: &VisionConfig) -> Result<Tensor, LoadError> {
    let (grid, hidden) = (config.grid(), config.hidden_size);
    let misfit = match embeddings.tensor(NAME, &[1, config.tokens(), hidden]) {
        Err(error @ LoadError::TensorShape { .. }) => error,
        outcome => return outcome,
    };
    let LoadError::TensorShape { found, .. } = &misfit else { return Err(misfit) };
    let Some(trained) = trained_grid(found, hidden) else { return Err(misfit) };
    tracing::info!(
        trained_patches_per_side = trained,
        patches_per_side = grid,
        "position embeddings interpolated"
    );
    Ok(interpolate(&embeddings.tensor(NAME, found)?, trained, grid)?)
}

/// Returns the number of patches along one side of the trained images, if the shape is valid.
fn trained_grid(shape: &[i64], hidden: i64) -> Option<i64> {
    let &[1, tokens, width] = shape else { return None };
    let side = (tokens - 1).max(0).isqrt();
    (width == hidden && side > 0 && side * side + 1 == tokens).then_some(side)
}

/// Interpolates `[1, from * from + 1, hidden]` to `[1, to * to + 1, hidden]`: bicubic in f32,
/// without antialiasing. The row of the class token is unchanged.
fn interpolate(table: &Tensor, from: i64, to: i64) -> Result<Tensor, TchError> {
    let (_, tokens, hidden) = table.size3()?;
    let patches = table
        .f_narrow(1, 1, tokens - 1)?
        .f_to_kind(Kind::Float)?
        .f_reshape([1, from, from, hidden])?
        .f_permute([0, 3, 1, 2])?
        .f_upsample_bicubic2d([to, to], false, None, None)?
        .f_permute([0, 2, 3, 1])?
        .f_reshape([1, to * to, hidden])?
        .f_to_kind(table.kind())?;
    Tensor::f_cat(&[table.f_narrow(1, 0, 1)?, patches], 1)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn only_square_grid_with_class_token_is_valid() {
        assert_eq!(trained_grid(&[1, 901, 768], 768), Some(30));
        for shape in [&[1, 900, 768][..], &[1, 901, 1024], &[901, 768], &[1, 1, 768], &[2, 901, 768]] {
            assert_eq!(trained_grid(shape, 768), None, "{shape:?}");
        }
    }

    #[test]
    fn constant_table_and_class_token_are_unchanged() {
        let class = Tensor::full([1, 1, 2], 7.0, (Kind::Half, Device::Cpu));
        let patches = Tensor::full([1, 9, 2], 0.5, (Kind::Half, Device::Cpu));
        let table = interpolate(&Tensor::cat(&[class, patches], 1), 3, 5).unwrap();
        assert_eq!((table.size(), table.kind()), (vec![1, 26, 2], Kind::Half));
        let rows = Vec::<f32>::try_from(table.to_kind(Kind::Float).flatten(0, -1)).unwrap();
        assert_eq!(rows[..2], [7.0, 7.0]);
        assert!(rows[2..].iter().all(|value| (value - 0.5).abs() < 1e-3), "{rows:?}");
    }
}
