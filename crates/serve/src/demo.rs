//! The demo model, a part of the program.

/// File names and contents of `models/demo`, in Hugging Face's layout.
pub static DEMO_MODEL: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/demo_model.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_holds_a_whole_checkpoint() {
        let checkpoint = blip::Checkpoint::open(&blip::ModelFiles::Embedded(DEMO_MODEL)).unwrap();
        assert!(!checkpoint.tokenizer().encode("how many circles are in the picture?").unwrap().is_empty());
    }
}
