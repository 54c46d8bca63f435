//! The demo models, parts of the program.

/// File names and contents of a model, in Hugging Face's layout.
pub type Files = &'static [(&'static str, &'static [u8])];

/// The folders `models/demo*`, each by its name.
pub static DEMO_MODELS: &[(&str, Files)] = include!(concat!(env!("OUT_DIR"), "/demo_models.rs"));

/// The demo model of this name, if there is one: its name for as long as the program runs, and its files.
#[must_use]
pub fn demo_model(name: &str) -> Option<(&'static str, Files)> {
    DEMO_MODELS.iter().find(|(known, _)| *known == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_holds_whole_checkpoints() {
        for (name, files) in DEMO_MODELS {
            let checkpoint = blip::Checkpoint::open(&blip::ModelFiles::Embedded(files)).unwrap();
            assert!(!checkpoint.tokenizer().encode("a red circle").unwrap().is_empty(), "{name}");
        }
        assert!(demo_model("demo").is_some());
        assert!(demo_model("demo-of-nothing").is_none());
    }
}
