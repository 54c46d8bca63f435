//! The generation options of client commands.

use blip_server::request::generation::GenerationOptions;

/// Returns the message of the options, or `None` if no option is set.
pub(crate) fn generation_message(options: GenerationOptions) -> Option<proto::GenerationOptions> {
    (options != GenerationOptions::default()).then(|| options.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        generation: GenerationOptions,
    }

    fn options(line: &str) -> Option<proto::GenerationOptions> {
        generation_message(Line::try_parse_from(line.split_whitespace()).unwrap().generation)
    }

    #[test]
    fn unset_options_are_not_sent() {
        assert_eq!(options("ask"), None);
        let expected = proto::GenerationOptions {
            sample: Some(true),
            temperature: Some(0.5),
            seed: Some(7),
            ..proto::GenerationOptions::default()
        };
        assert_eq!(options("ask --sample --temperature 0.5 --seed 7"), Some(expected));
    }

    #[test]
    fn beam_search_conflicts_with_sampling() {
        for line in ["ask --num-beams 3 --sample", "ask --num-beams 3 --top-k 5"] {
            Line::try_parse_from(line.split_whitespace()).unwrap_err();
        }
    }
}
