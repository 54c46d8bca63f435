//! How tokens are to be chosen, and which model is asked.

use clap::{Args, ValueEnum};

use crate::proto::{self, GenerationOptions};

/// What every request of a command says.
#[derive(Args, Clone, Debug)]
pub(super) struct ModelOptions {
    /// The model, by the name that the server has for it [default: its first one for this task]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) model: String,

    /// Who goes first when several callers wait; the key that is used may allow less
    #[arg(long, value_enum, default_value_t = Priority::Normal)]
    priority: Priority,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Priority {
    Low,
    Normal,
    High,
}

impl ModelOptions {
    /// As the contract has it.
    pub(super) fn priority(&self) -> i32 {
        match self.priority {
            Priority::Low => proto::Priority::Low,
            Priority::Normal => proto::Priority::Normal,
            Priority::High => proto::Priority::High,
        }
        .into()
    }
}

/// How tokens are chosen; what is not given is as the model says. The server has a limit for each.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How answers are written")]
pub(super) struct GenerationFlags {
    /// Beam search with so many hypotheses; 1 takes the likeliest token each time
    #[arg(long, value_name = "N", conflicts_with = "sample")]
    num_beams: Option<u32>,

    /// Tokens that are written at most, the stop token included
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<u32>,

    /// Tokens, start token and prompt included, before which nothing stops
    #[arg(long, value_name = "N")]
    min_length: Option<u32>,

    /// Beam search: above 0 favours long answers
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    length_penalty: Option<f32>,

    /// Above 1 makes tokens that are there already less likely
    #[arg(long, value_name = "FACTOR")]
    repetition_penalty: Option<f32>,

    /// Draw tokens instead of taking the likeliest
    #[arg(long)]
    sample: bool,

    /// Drawing: logits are divided by this
    #[arg(long, value_name = "FACTOR", conflicts_with = "num_beams")]
    temperature: Option<f32>,

    /// Drawing: from so many of the likeliest tokens only
    #[arg(long, value_name = "N", conflicts_with = "num_beams")]
    top_k: Option<u32>,

    /// Drawing: from the likeliest tokens only that together have this probability
    #[arg(long, value_name = "SHARE", conflicts_with = "num_beams")]
    top_p: Option<f32>,

    /// Drawing: the same seed draws the same answers
    #[arg(long, value_name = "N", conflicts_with = "num_beams")]
    seed: Option<u64>,

    /// Best answers wanted
    #[arg(long, value_name = "N")]
    num_answers: Option<u32>,
}

impl GenerationFlags {
    /// As the contract has it; `None` if nothing was given.
    pub(super) fn options(&self) -> Option<GenerationOptions> {
        let options = GenerationOptions {
            num_beams: self.num_beams,
            max_new_tokens: self.max_new_tokens,
            min_length: self.min_length,
            length_penalty: self.length_penalty,
            repetition_penalty: self.repetition_penalty,
            sample: self.sample.then_some(true),
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: self.seed,
            num_answers: self.num_answers,
        };
        (options != GenerationOptions::default()).then_some(options)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: GenerationFlags,
    }

    fn options(line: &str) -> Option<GenerationOptions> {
        Line::try_parse_from(line.split_whitespace()).unwrap().flags.options()
    }

    #[test]
    fn what_is_not_given_is_not_sent() {
        assert_eq!(options("ask"), None);
        let given = options("ask --sample --temperature 0.5 --seed 7").unwrap();
        let wanted = GenerationOptions {
            sample: Some(true),
            temperature: Some(0.5),
            seed: Some(7),
            ..GenerationOptions::default()
        };
        assert_eq!(given, wanted);
    }

    #[test]
    fn beams_are_not_drawn_from() {
        for line in ["ask --num-beams 3 --sample", "ask --num-beams 3 --top-k 5"] {
            Line::try_parse_from(line.split_whitespace()).unwrap_err();
        }
    }
}
