//! Generation options: the one definition for gRPC, JSON, forms and the command line, and their
//! resolution.

use std::{fmt::Display, ops::RangeInclusive};

use blip::{Generation, Sampling};
use clap::Args;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    config::sections::limits::RequestLimits,
    error::{ErrorReason, RequestError},
    request::whole_number::whole_number,
};

/// The ranges of options that no setting limits. Values outside them would overflow or have no use.
const LENGTH_PENALTY: RangeInclusive<f32> = -10.0..=10.0;
const REPETITION_PENALTY: RangeInclusive<f32> = 0.01..=100.0;
const TEMPERATURE: RangeInclusive<f32> = 0.01..=100.0;
const TOP_P: RangeInclusive<f32> = 0.001..=1.0;

/// Defines [`GenerationOptions`] and its conversions from and to the message of the contract.
macro_rules! generation_options {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        /// How tokens are chosen. Each option has the meaning that it has in the `transformers`
        /// library. An option that is not set has the model's default.
        #[derive(Args, Clone, Copy, Debug, Default, PartialEq, Deserialize, ToSchema)]
        #[command(next_help_heading = "Generation")]
        #[serde(default, deny_unknown_fields)]
        pub struct GenerationOptions {
            $($(#[$attribute])* pub $name: Option<$type>,)*
        }

        impl From<proto::GenerationOptions> for GenerationOptions {
            fn from(options: proto::GenerationOptions) -> Self {
                Self { $($name: options.$name,)* }
            }
        }

        impl From<GenerationOptions> for proto::GenerationOptions {
            fn from(options: GenerationOptions) -> Self {
                Self { $($name: options.$name,)* }
            }
        }
    };
}

generation_options! {
    /// Number of hypotheses of beam search; 1 is greedy search
    #[arg(long, value_name = "N", conflicts_with = "sample")]
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "whole_number")]
    num_beams: u32,
    /// Maximum number of generated tokens, including the stop token
    #[arg(long, value_name = "N")]
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "whole_number")]
    max_new_tokens: u32,
    /// Number of tokens, including start token and prompt, before generation may stop
    #[arg(long, value_name = "N")]
    #[serde(deserialize_with = "whole_number")]
    min_length: u32,
    /// Beam search: exponent of the length penalty; above 0 favours long texts
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    #[schema(minimum = -10, maximum = 10)]
    length_penalty: f32,
    /// Factor above 1 that makes repeated tokens less likely
    #[arg(long, value_name = "FACTOR")]
    #[schema(minimum = 0.01, maximum = 100)]
    repetition_penalty: f32,
    /// Sample tokens; the default if one of the next four options is set
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    sample: bool,
    /// Sampling: divisor of logits
    #[arg(long, value_name = "FACTOR", conflicts_with = "num_beams")]
    #[schema(minimum = 0.01, maximum = 100)]
    temperature: f32,
    /// Sampling: number of most likely tokens to sample from; 0 is all
    #[arg(long, value_name = "N", conflicts_with = "num_beams")]
    #[schema(minimum = 0, maximum = 4_294_967_295_u32, format = "uint32")]
    #[serde(deserialize_with = "whole_number")]
    top_k: u32,
    /// Sampling: total probability of the most likely tokens to sample from
    #[arg(long, value_name = "SHARE", conflicts_with = "num_beams")]
    #[schema(minimum = 0.001, maximum = 1)]
    top_p: f32,
    /// Sampling: seed; the same seed and input have the same result
    #[arg(long, value_name = "N", conflicts_with = "num_beams")]
    #[schema(minimum = 0, format = "uint64")]
    #[serde(deserialize_with = "whole_number")]
    seed: u64,
    /// Number of results per item; those after the first are in the details
    #[arg(long, value_name = "N")]
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "whole_number")]
    num_answers: u32,
}

impl GenerationOptions {
    /// Resolves the options for a model whose defaults are `defaults`. Draws a seed if sampling has
    /// none.
    ///
    /// # Errors
    /// A [`RequestError`] that names the option, its value and the allowed range.
    pub fn resolve(&self, defaults: Generation, limits: &RequestLimits) -> Result<Generation, RequestError> {
        let max_tokens = limits.max_new_tokens;
        within("num_beams", self.num_beams, 1..=limits.max_beams)?;
        within("num_answers", self.num_answers, 1..=limits.max_beams)?;
        within("max_new_tokens", self.max_new_tokens, 1..=max_tokens)?;
        within("min_length", self.min_length, 0..=max_tokens)?;
        within("length_penalty", self.length_penalty, LENGTH_PENALTY)?;
        within("repetition_penalty", self.repetition_penalty, REPETITION_PENALTY)?;
        within("temperature", self.temperature, TEMPERATURE)?;
        within("top_p", self.top_p, TOP_P)?;

        let sampling_option = self.sampling_option();
        if let (Some(false), Some(name)) = (self.sample, sampling_option) {
            return Err(conflict(name, "it needs sampling, and sample is false"));
        }
        let sampling = (self.sample == Some(true) || sampling_option.is_some()).then(|| Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            seed: self.seed.unwrap_or_else(rand::random),
        });
        let num_sequences = self.num_answers.unwrap_or(1);
        let num_beams = match (sampling, self.num_beams) {
            (Some(_), Some(beams)) if beams > 1 => {
                return Err(conflict("num_beams", "beam search excludes sampling"));
            }
            (Some(_), _) => 1,
            (None, Some(beams)) if beams < num_sequences => {
                return Err(conflict(
                    "num_answers",
                    format!("it is {num_sequences}, num_beams only {beams}"),
                ));
            }
            (None, Some(beams)) => beams,
            (None, None) => defaults.num_beams.max(num_sequences),
        };
        Ok(Generation {
            num_beams,
            max_new_tokens: self.max_new_tokens.or(defaults.max_new_tokens),
            min_length: self.min_length.unwrap_or(defaults.min_length),
            length_penalty: self.length_penalty.unwrap_or(defaults.length_penalty),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            sampling,
            num_sequences,
            report_tokens: false,
            explain: false,
        })
    }

    /// Names an invalid option by its path in the `parameters` of a request.
    #[must_use]
    pub fn in_parameters(error: RequestError) -> RequestError {
        error.rename_field(|field| Some(format!("parameters.{}", field.strip_prefix("generation.")?)))
    }

    /// Returns whether [`Self::resolve`] draws a seed, so that the same options have different
    /// results.
    #[must_use]
    pub fn draws_seed(&self) -> bool {
        self.seed.is_none() && (self.sample == Some(true) || self.sampling_option().is_some())
    }

    /// Returns the first option that is set and that implies sampling.
    fn sampling_option(&self) -> Option<&'static str> {
        let options = [
            ("temperature", self.temperature.is_some()),
            ("top_k", self.top_k.is_some()),
            ("top_p", self.top_p.is_some()),
            ("seed", self.seed.is_some()),
        ];
        options.iter().find_map(|(name, is_set)| is_set.then_some(*name))
    }
}

fn within<T: PartialOrd + Display>(
    name: &str,
    value: Option<T>,
    allowed: RangeInclusive<T>,
) -> Result<(), RequestError> {
    match value {
        // NaN is in no range.
        Some(value) if !allowed.contains(&value) => Err(RequestError::new(ErrorReason::GenerationOutOfRange)
            .field(format!("generation.{name}"))
            .value(value.to_string())
            .limit(format!("{} to {}", allowed.start(), allowed.end()))),
        _ => Ok(()),
    }
}

fn conflict(name: &str, cause: impl Display) -> RequestError {
    RequestError::new(ErrorReason::GenerationConflict).field(format!("generation.{name}")).cause(cause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Settings;

    fn resolved(options: GenerationOptions) -> Result<Generation, (ErrorReason, String)> {
        options
            .resolve(Generation::GREEDY, &Settings::default().limits)
            .map_err(|error| (error.reason(), error.to_string()))
    }

    #[test]
    fn unset_options_have_model_defaults() {
        let defaults =
            Generation { num_beams: 3, max_new_tokens: Some(9), min_length: 1, ..Generation::GREEDY };
        let limits = Settings::default().limits;
        assert_eq!(GenerationOptions::default().resolve(defaults, &limits), Ok(defaults));
        let sampled = GenerationOptions { seed: Some(7), ..GenerationOptions::default() };
        let sampled = sampled.resolve(defaults, &limits).unwrap();
        assert_eq!((sampled.num_beams, sampled.sampling.unwrap().seed), (1, 7));
    }

    #[test]
    fn num_beams_defaults_to_num_answers() {
        let five = resolved(GenerationOptions { num_answers: Some(5), ..Default::default() }).unwrap();
        assert_eq!((five.num_beams, five.num_sequences), (5, 5));
        let fewer =
            GenerationOptions { num_answers: Some(5), num_beams: Some(4), ..GenerationOptions::default() };
        let (reason, message) = resolved(fewer).unwrap_err();
        assert_eq!(reason, ErrorReason::GenerationConflict);
        assert_eq!(
            message,
            "generation.num_answers conflicts with the rest of the request: it is 5, num_beams only 4"
        );
    }

    #[test]
    fn value_out_of_range_names_value_and_range() {
        let options = GenerationOptions { num_beams: Some(0), ..Default::default() };
        let (reason, message) = resolved(options).unwrap_err();
        assert_eq!(reason, ErrorReason::GenerationOutOfRange);
        assert_eq!(message, "generation.num_beams out of range: 0, 1 to 10 allowed");
        for options in [
            GenerationOptions { temperature: Some(0.0), ..Default::default() },
            GenerationOptions { temperature: Some(f32::NAN), ..Default::default() },
            GenerationOptions { top_p: Some(1.5), ..Default::default() },
            GenerationOptions { length_penalty: Some(f32::INFINITY), ..Default::default() },
            GenerationOptions { max_new_tokens: Some(u32::MAX), ..Default::default() },
        ] {
            assert_eq!(resolved(options).unwrap_err().0, ErrorReason::GenerationOutOfRange, "{options:?}");
        }
    }

    #[test]
    fn sampling_conflicts_with_beams_and_sample_false() {
        for options in [
            GenerationOptions { num_beams: Some(2), top_k: Some(3), ..Default::default() },
            GenerationOptions { sample: Some(false), top_k: Some(3), ..Default::default() },
        ] {
            assert_eq!(resolved(options).unwrap_err().0, ErrorReason::GenerationConflict, "{options:?}");
        }
    }

    proptest! {
        #[test]
        fn accepted_options_are_within_limits(
            num_beams in proptest::option::of(0_u32..20),
            num_answers in proptest::option::of(0_u32..20),
            sample in proptest::option::of(any::<bool>()),
            temperature in proptest::option::of(any::<f32>()),
            max_new_tokens in proptest::option::of(0_u32..1000),
        ) {
            let limits = Settings::default().limits;
            let options = GenerationOptions {
                num_beams, num_answers, sample, temperature, max_new_tokens, ..Default::default()
            };
            if let Ok(generation) = resolved(options) {
                prop_assert!((1..=limits.max_beams).contains(&generation.num_beams));
                prop_assert!((1..=limits.max_beams).contains(&generation.num_sequences));
                prop_assert!(generation.sampling.is_some() || generation.num_beams >= generation.num_sequences);
                prop_assert!(generation.max_new_tokens.is_none_or(|tokens| tokens <= limits.max_new_tokens));
                prop_assert!(generation.sampling.is_none_or(|sampling| sampling.temperature > 0.0));
            }
        }
    }
}
