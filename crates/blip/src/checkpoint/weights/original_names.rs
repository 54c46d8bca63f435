//! Tensor names of the original repository's checkpoints (`salesforce/BLIP`), and their names in
//! Hugging Face's layout.
//!
//! The vision encoder is renamed. The text networks and the heads have equal names. Tensors that
//! only training needs are left out:
//!
//! - the momentum copies (`visual_encoder_m.*` and similar),
//! - the queues and the temperature,
//! - the state of an optimizer.

use std::borrow::Cow;

/// Naming scheme of the tensors in a file of `torch.save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Hugging Face's names.
    HuggingFace,
    /// Names of the original repository, each with this prefix.
    Original(&'static str),
}

impl Naming {
    /// Detects the scheme by the vision encoder. Only the original repository calls it
    /// `visual_encoder`.
    pub(super) fn detect<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        names
            .filter_map(|name| {
                // A checkpoint of the original is `{"model": tensors, ...}`. Without the trainer's
                // state it is the tensors alone.
                ["", "model."]
                    .into_iter()
                    .find(|prefix| {
                        name.strip_prefix(prefix).is_some_and(|name| name.starts_with("visual_encoder."))
                    })
                    .map(Self::Original)
            })
            .next()
            .unwrap_or(Self::HuggingFace)
    }

    /// Returns Hugging Face's name of the tensor, or `None` for a tensor that no model reads.
    pub(super) fn translate<'n>(self, name: &'n str) -> Option<Cow<'n, str>> {
        match self {
            Self::HuggingFace => Some(Cow::Borrowed(name)),
            Self::Original(prefix) => {
                let name = name.strip_prefix(prefix)?;
                match name.split_once('.')? {
                    ("visual_encoder", rest) => vision(rest).map(Cow::Owned),
                    ("text_encoder" | "text_decoder" | "vision_proj" | "text_proj" | "itm_head", _) => {
                        Some(Cow::Borrowed(name))
                    }
                    _ => None,
                }
            }
        }
    }
}

/// Translates a name below `visual_encoder.`, which follows the vision transformer of `timm`.
fn vision(name: &str) -> Option<String> {
    let name = match name.split_once('.') {
        None => match name {
            "cls_token" => "embeddings.class_embedding".to_owned(),
            "pos_embed" => "embeddings.position_embedding".to_owned(),
            _ => return None,
        },
        Some(("norm", leaf)) => format!("post_layernorm.{leaf}"),
        Some(("patch_embed", rest)) => {
            format!("embeddings.patch_embedding.{}", rest.strip_prefix("proj.")?)
        }
        Some(("blocks", rest)) => {
            let (index, rest) = rest.split_once('.')?;
            let (part, rest) = rest.split_once('.')?;
            let renamed = match part {
                "norm1" => format!("layer_norm1.{rest}"),
                "norm2" => format!("layer_norm2.{rest}"),
                "mlp" => format!("mlp.{rest}"),
                "attn" => match rest.split_once('.')? {
                    ("qkv", leaf) => format!("self_attn.qkv.{leaf}"),
                    ("proj", leaf) => format!("self_attn.projection.{leaf}"),
                    _ => return None,
                },
                _ => return None,
            };
            format!("encoder.layers.{index}.{renamed}")
        }
        Some(_) => return None,
    };
    Some(format!("vision_model.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: Naming = Naming::Original("model.");

    #[test]
    fn original_vision_encoder_names_are_translated() {
        for (original, expected) in [
            ("cls_token", "embeddings.class_embedding"),
            ("pos_embed", "embeddings.position_embedding"),
            ("patch_embed.proj.weight", "embeddings.patch_embedding.weight"),
            ("patch_embed.proj.bias", "embeddings.patch_embedding.bias"),
            ("blocks.0.norm1.weight", "encoder.layers.0.layer_norm1.weight"),
            ("blocks.11.attn.qkv.weight", "encoder.layers.11.self_attn.qkv.weight"),
            ("blocks.11.attn.qkv.bias", "encoder.layers.11.self_attn.qkv.bias"),
            ("blocks.23.attn.proj.bias", "encoder.layers.23.self_attn.projection.bias"),
            ("blocks.3.norm2.bias", "encoder.layers.3.layer_norm2.bias"),
            ("blocks.3.mlp.fc1.weight", "encoder.layers.3.mlp.fc1.weight"),
            ("blocks.3.mlp.fc2.bias", "encoder.layers.3.mlp.fc2.bias"),
            ("norm.weight", "post_layernorm.weight"),
        ] {
            let original = format!("model.visual_encoder.{original}");
            assert_eq!(ORIGINAL.translate(&original).unwrap(), format!("vision_model.{expected}"));
        }
    }

    #[test]
    fn text_and_head_names_are_unchanged() {
        for name in [
            "text_encoder.encoder.layer.0.crossattention.self.key.weight",
            "text_decoder.bert.embeddings.word_embeddings.weight",
            "text_decoder.cls.predictions.decoder.bias",
            "vision_proj.weight",
            "text_proj.bias",
            "itm_head.weight",
        ] {
            let original = format!("model.{name}");
            assert_eq!(ORIGINAL.translate(&original).unwrap(), name);
        }
    }

    #[test]
    fn training_tensors_are_left_out() {
        for name in [
            "model.visual_encoder_m.cls_token",
            "model.text_encoder_m.embeddings.word_embeddings.weight",
            "model.vision_proj_m.weight",
            "model.text_proj_m.weight",
            "model.image_queue",
            "model.text_queue",
            "model.temp",
            "model.visual_encoder.head.weight",
            "model.visual_encoder.blocks.0.attn.extra.weight",
            "optimizer.state.0.exp_avg",
            "visual_encoder.cls_token",
        ] {
            assert_eq!(ORIGINAL.translate(name), None, "{name}");
        }
    }

    #[test]
    fn naming_is_detected_by_vision_encoder() {
        let of = |names: &[&'static str]| Naming::detect(names.iter().copied());
        assert_eq!(of(&["epoch", "model.text_proj.bias", "model.visual_encoder.norm.bias"]), ORIGINAL);
        assert_eq!(of(&["visual_encoder.norm.bias"]), Naming::Original(""));
        assert_eq!(of(&["vision_model.post_layernorm.bias"]), Naming::HuggingFace);
        assert_eq!(Naming::HuggingFace.translate("itm_head.bias").unwrap(), "itm_head.bias");
    }
}
