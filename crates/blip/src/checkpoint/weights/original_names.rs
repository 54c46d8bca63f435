//! The names of tensors in the original repository's checkpoints (`salesforce/BLIP`), and what Hugging Face calls them.
//!
//! The vision encoder is renamed, the text parts and the heads are not. What only training needs is left out: the
//! momentum copies (`visual_encoder_m.*` and its like), the queues, the temperature, an optimizer's state.

use std::borrow::Cow;

/// How a file that `torch.save` wrote names its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Hugging Face's names.
    HuggingFace,
    /// The original repository's names, each behind this.
    Original(&'static str),
}

impl Naming {
    /// Tells by the vision encoder, which only the original repository calls a visual one.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        names
            .filter_map(|name| {
                // A checkpoint of the original is `{"model": tensors, ...}`; without its trainer it is the tensors.
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

    /// Hugging Face's name of the tensor, or `None` for one that no model reads.
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

/// What stands behind `visual_encoder.`: a vision transformer by the names of `timm`.
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
    fn the_original_calls_the_vision_encoder_otherwise() {
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
    fn text_and_heads_of_every_task_keep_their_names() {
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
    fn what_only_training_needs_is_left_out() {
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
    fn whose_names_they_are_is_told_by_the_vision_encoder() {
        let of = |names: &[&'static str]| Naming::of(names.iter().copied());
        assert_eq!(of(&["epoch", "model.text_proj.bias", "model.visual_encoder.norm.bias"]), ORIGINAL);
        assert_eq!(of(&["visual_encoder.norm.bias"]), Naming::Original(""));
        assert_eq!(of(&["vision_model.post_layernorm.bias"]), Naming::HuggingFace);
        assert_eq!(Naming::HuggingFace.translate("itm_head.bias").unwrap(), "itm_head.bias");
    }
}
