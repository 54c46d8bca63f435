//! A request's generation options, checked against the limits and laid over the model's own.

use std::{fmt::Display, ops::RangeInclusive};

use blip::{Generation, Sampling};

use crate::{
    errors::{Reason, Refusal},
    proto::GenerationOptions,
    settings::RequestLimits,
};

/// Above these, numbers serve nobody, and some would overflow.
const LENGTH_PENALTY: RangeInclusive<f32> = -10.0..=10.0;
const REPETITION_PENALTY: RangeInclusive<f32> = 0.01..=100.0;
const TEMPERATURE: RangeInclusive<f32> = 0.01..=100.0;
const TOP_P: RangeInclusive<f32> = 0.001..=1.0;

/// What `options` come to over the model's own way of writing. Without a seed, one is drawn.
///
/// # Errors
/// A [`Refusal`] that names the option, its value and what is allowed.
pub fn resolve(
    options: &GenerationOptions,
    own: Generation,
    limits: &RequestLimits,
) -> Result<Generation, Refusal> {
    let GenerationOptions {
        num_beams,
        max_new_tokens,
        min_length,
        length_penalty,
        repetition_penalty,
        sample,
        temperature,
        top_k,
        top_p,
        seed,
        num_answers,
    } = *options;
    let max_tokens = limits.max_new_tokens;
    within("num_beams", num_beams, 1..=limits.max_beams)?;
    within("num_answers", num_answers, 1..=limits.max_beams)?;
    within("max_new_tokens", max_new_tokens, 1..=max_tokens)?;
    within("min_length", min_length, 0..=max_tokens)?;
    within("length_penalty", length_penalty, LENGTH_PENALTY)?;
    within("repetition_penalty", repetition_penalty, REPETITION_PENALTY)?;
    within("temperature", temperature, TEMPERATURE)?;
    within("top_p", top_p, TOP_P)?;

    let drawing = drawing(options);
    if let (Some(false), Some(name)) = (sample, drawing) {
        return Err(conflict(name, "it has a meaning only where tokens are drawn, and sample is false"));
    }
    let sampling = (sample == Some(true) || drawing.is_some()).then(|| Sampling {
        temperature: temperature.unwrap_or(1.0),
        top_k: top_k.unwrap_or(0),
        top_p: top_p.unwrap_or(1.0),
        seed: seed.unwrap_or_else(rand::random),
    });
    let num_sequences = num_answers.unwrap_or(1);
    let num_beams = match (sampling, num_beams) {
        (Some(_), Some(beams)) if beams > 1 => {
            return Err(conflict("num_beams", "beam search does not go together with drawn tokens"));
        }
        (Some(_), _) => 1,
        (None, Some(beams)) if beams < num_sequences => {
            return Err(conflict("num_answers", format!("it is {num_sequences}, num_beams only {beams}")));
        }
        (None, Some(beams)) => beams,
        (None, None) => own.num_beams.max(num_sequences),
    };
    Ok(Generation {
        num_beams,
        max_new_tokens: max_new_tokens.or(own.max_new_tokens),
        min_length: min_length.unwrap_or(own.min_length),
        length_penalty: length_penalty.unwrap_or(own.length_penalty),
        repetition_penalty: repetition_penalty.unwrap_or(own.repetition_penalty),
        sampling,
        num_sequences,
        report_tokens: false,
    })
}

/// Whether tokens are drawn by a seed of the server's own: the same options, asked again, come to something else.
#[must_use]
pub fn draws_a_seed(options: &GenerationOptions) -> bool {
    options.seed.is_none() && (options.sample == Some(true) || drawing(options).is_some())
}

/// The first option that is set and has a meaning only where tokens are drawn.
fn drawing(options: &GenerationOptions) -> Option<&'static str> {
    let draws = [
        ("temperature", options.temperature.is_some()),
        ("top_k", options.top_k.is_some()),
        ("top_p", options.top_p.is_some()),
        ("seed", options.seed.is_some()),
    ];
    draws.iter().find_map(|(name, set)| set.then_some(*name))
}

fn within<T: PartialOrd + Display>(
    name: &str,
    value: Option<T>,
    allowed: RangeInclusive<T>,
) -> Result<(), Refusal> {
    match value {
        // What is not a number is in no range.
        Some(value) if !allowed.contains(&value) => Err(Refusal::new(Reason::GenerationOutOfRange)
            .field(format!("generation.{name}"))
            .value(value.to_string())
            .limit(format!("{} to {}", allowed.start(), allowed.end()))),
        _ => Ok(()),
    }
}

fn conflict(name: &str, cause: impl Display) -> Refusal {
    Refusal::new(Reason::GenerationConflict).field(format!("generation.{name}")).cause(cause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Settings;

    fn resolved(options: GenerationOptions) -> Result<Generation, (Reason, String)> {
        resolve(&options, Generation::GREEDY, &Settings::default().limits)
            .map_err(|refusal| (refusal.reason(), refusal.to_string()))
    }

    #[test]
    fn nothing_set_is_the_models_own_way() {
        let own = Generation { num_beams: 3, max_new_tokens: Some(9), min_length: 1, ..Generation::GREEDY };
        let limits = Settings::default().limits;
        assert_eq!(resolve(&GenerationOptions::default(), own, &limits), Ok(own));
        let sampled = GenerationOptions { seed: Some(7), ..GenerationOptions::default() };
        let sampled = resolve(&sampled, own, &limits).unwrap();
        assert_eq!((sampled.num_beams, sampled.sampling.unwrap().seed), (1, 7));
    }

    #[test]
    fn as_many_beams_are_followed_as_answers_are_wanted() {
        let five = resolved(GenerationOptions { num_answers: Some(5), ..Default::default() }).unwrap();
        assert_eq!((five.num_beams, five.num_sequences), (5, 5));
        let fewer =
            GenerationOptions { num_answers: Some(5), num_beams: Some(4), ..GenerationOptions::default() };
        let (reason, message) = resolved(fewer).unwrap_err();
        assert_eq!(reason, Reason::GenerationConflict);
        assert_eq!(
            message,
            "generation.num_answers does not go with the rest of the request: it is 5, num_beams only 4"
        );
    }

    #[test]
    fn what_is_out_of_range_is_named_with_its_value_and_the_range() {
        let options = GenerationOptions { num_beams: Some(0), ..Default::default() };
        let (reason, message) = resolved(options).unwrap_err();
        assert_eq!(reason, Reason::GenerationOutOfRange);
        assert_eq!(message, "generation.num_beams is 0, allowed is 1 to 10");
        for options in [
            GenerationOptions { temperature: Some(0.0), ..Default::default() },
            GenerationOptions { temperature: Some(f32::NAN), ..Default::default() },
            GenerationOptions { top_p: Some(1.5), ..Default::default() },
            GenerationOptions { length_penalty: Some(f32::INFINITY), ..Default::default() },
            GenerationOptions { max_new_tokens: Some(u32::MAX), ..Default::default() },
        ] {
            assert_eq!(resolved(options).unwrap_err().0, Reason::GenerationOutOfRange, "{options:?}");
        }
    }

    #[test]
    fn beams_and_greedy_words_are_not_drawn() {
        for options in [
            GenerationOptions { num_beams: Some(2), top_k: Some(3), ..Default::default() },
            GenerationOptions { sample: Some(false), top_k: Some(3), ..Default::default() },
        ] {
            assert_eq!(resolved(options).unwrap_err().0, Reason::GenerationConflict, "{options:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_within_the_limits(
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
