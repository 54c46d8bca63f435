//! The demo models that the program contains.

use blip_server::config::sections::model::EmbeddedModels;

/// The folders `models/demo*` by name.
pub(crate) static EMBEDDED_MODELS: EmbeddedModels = include!(concat!(env!("OUT_DIR"), "/demo_models.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_models_are_complete_checkpoints() {
        for (name, files) in EMBEDDED_MODELS {
            let checkpoint = blip::Checkpoint::open(&blip::ModelFiles::Embedded(files)).unwrap();
            assert!(!checkpoint.tokenizer().encode("a red circle").unwrap().is_empty(), "{name}");
        }
        assert!(EMBEDDED_MODELS.iter().any(|(name, _)| *name == "demo"));
    }
}
