//! The parameters of a request.

use serde::{Deserialize, de::IgnoredAny};
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    http::adapters::hugging_face::task_name::TaskName,
    request::{generation::GenerationOptions, item::check_repeated, whole_number::whole_number},
};

/// The template of a label that the pipeline of `transformers` uses by default.
const HYPOTHESIS_TEMPLATE: &str = "This is a photo of {}.";

/// What stands for the label in a template.
const PLACEHOLDER: &str = "{}";

/// The parameters of a task. Each task uses some of them, and the others are errors.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Visual question answering: the number of answers.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    top_k: Option<u32>,
    /// Zero-shot image classification: the labels.
    pub(crate) candidate_labels: Option<Vec<String>>,
    /// Zero-shot image classification: the text that the image is compared with. `{}` stands for
    /// the label. The default is `This is a photo of {}.`
    pub(crate) hypothesis_template: Option<String>,
    /// Answers and captions: the maximum number of generated tokens.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    max_new_tokens: Option<u32>,
    /// Answers and captions: how tokens are chosen.
    #[serde(alias = "generate_kwargs")]
    generation_parameters: Option<Generation>,
    /// Feature extraction: only `true` is accepted, because every embedding has the length 1.
    #[schema(example = true)]
    normalize: Option<bool>,
    /// Feature extraction: it has no effect.
    #[schema(value_type = Option<serde_json::Value>)]
    truncate: Option<IgnoredAny>,
}

/// How tokens are chosen, by the names of `transformers`.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Generation {
    /// Whether tokens are sampled.
    do_sample: Option<bool>,
    /// The number of beams.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    num_beams: Option<u32>,
    /// The maximum number of generated tokens.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    max_new_tokens: Option<u32>,
    /// The minimum length, in tokens.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 0, maximum = 4_294_967_295_u32, format = "uint32")]
    min_length: Option<u32>,
    /// The exponent of the length penalty.
    length_penalty: Option<f32>,
    /// The factor that makes repeated tokens less likely.
    repetition_penalty: Option<f32>,
    /// Sampling: divisor of logits.
    temperature: Option<f32>,
    /// Sampling: number of most likely tokens.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 0, maximum = 4_294_967_295_u32, format = "uint32")]
    top_k: Option<u32>,
    /// Sampling: total probability of the most likely tokens.
    top_p: Option<f32>,
}

impl Parameters {
    /// Returns whether the parameters are those of a caption, which no task of texts has.
    pub(crate) fn has_generation(&self) -> bool {
        self.max_new_tokens.is_some() || self.generation_parameters.is_some()
    }

    /// Rejects parameters that `task` does not use.
    ///
    /// # Errors
    /// A [`RequestError`] that names the first of them.
    pub(crate) fn check_used(&self, task: TaskName) -> Result<(), RequestError> {
        use TaskName::{
            FeatureExtraction, ImageToText, VisualQuestionAnswering, ZeroShotImageClassification,
        };
        let generates: &[_] = &[VisualQuestionAnswering, ImageToText];
        let classifies: &[_] = &[ZeroShotImageClassification];
        let embeds: &[_] = &[FeatureExtraction];
        let parameters: [(_, _, &[TaskName]); 7] = [
            ("top_k", self.top_k.is_some(), &[VisualQuestionAnswering]),
            ("max_new_tokens", self.max_new_tokens.is_some(), generates),
            ("generation_parameters", self.generation_parameters.is_some(), generates),
            ("candidate_labels", self.candidate_labels.is_some(), classifies),
            ("hypothesis_template", self.hypothesis_template.is_some(), classifies),
            ("normalize", self.normalize.is_some(), embeds),
            ("truncate", self.truncate.is_some(), embeds),
        ];
        match parameters.into_iter().find(|(_, is_set, tasks)| *is_set && !tasks.contains(&task)) {
            Some((name, ..)) => Err(task.unused(&format!("parameters.{name}"))),
            None => Ok(()),
        }
    }

    /// Names an invalid generation option by the parameter that it comes from.
    pub(crate) fn named(error: RequestError) -> RequestError {
        error.rename_field(|field| {
            Some(match field.strip_prefix("generation.")? {
                "num_answers" => "parameters.top_k".to_owned(),
                "max_new_tokens" => "parameters.max_new_tokens".to_owned(),
                option => format!("parameters.generation_parameters.{option}"),
            })
        })
    }

    /// Returns how the tokens of an answer or a caption are chosen.
    pub(crate) fn generation(&self) -> GenerationOptions {
        let generation = self.generation_parameters.unwrap_or_default();
        GenerationOptions {
            num_beams: generation.num_beams,
            // The smaller maximum holds.
            max_new_tokens: [self.max_new_tokens, generation.max_new_tokens].into_iter().flatten().min(),
            min_length: generation.min_length,
            // The score of an answer is its probability, whatever its length.
            length_penalty: generation
                .length_penalty
                .or(self.top_k.filter(|&answers| answers > 1).map(|_| 0.0)),
            repetition_penalty: generation.repetition_penalty,
            sample: generation.do_sample,
            temperature: generation.temperature,
            top_k: generation.top_k,
            top_p: generation.top_p,
            num_answers: self.top_k,
            ..GenerationOptions::default()
        }
    }

    /// Returns the text for each label. They may need at most `max_bytes`.
    ///
    /// # Errors
    /// A [`RequestError`] if the template has no place for the label, or if the texts are too long.
    pub(crate) fn hypotheses(
        &self,
        labels: &[String],
        max_bytes: usize,
    ) -> Result<Vec<String>, RequestError> {
        let template = self.hypothesis_template.as_deref().unwrap_or(HYPOTHESIS_TEMPLATE);
        let Some((before, after)) = template.split_once(PLACEHOLDER) else {
            return Err(RequestError::new(ErrorReason::PayloadInvalid)
                .field("parameters.hypothesis_template")
                .cause("no {} in it, which stands for the label"));
        };
        let bytes = labels.iter().map(|label| template.len() + label.len() + size_of::<String>());
        let bytes = bytes.fold(0_usize, usize::saturating_add);
        check_repeated(bytes, "the template repeated for each label", max_bytes)?;
        Ok(labels.iter().map(|label| [before, label, after].concat()).collect())
    }

    /// Rejects embeddings of another length than 1.
    ///
    /// # Errors
    /// A [`RequestError`] that names the parameter.
    pub(crate) fn check_normalize(&self, normalize: Option<bool>) -> Result<(), RequestError> {
        if normalize.or(self.normalize) == Some(false) {
            return Err(RequestError::new(ErrorReason::PayloadInvalid)
                .field("normalize")
                .cause("false, but every embedding has the length 1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(count: usize) -> Vec<String> {
        vec!["cat".to_owned(); count]
    }

    #[test]
    fn label_replaces_the_placeholder() {
        let template = |template: Option<&str>| Parameters {
            hypothesis_template: template.map(str::to_owned),
            ..Parameters::default()
        };
        let hypothesis = |text| template(text).hypotheses(&labels(1), 1000).unwrap().pop().unwrap();
        assert_eq!(hypothesis(None), "This is a photo of cat.");
        assert_eq!(hypothesis(Some("a {} {}")), "a cat {}");
        let error = template(Some("a photo")).hypotheses(&labels(1), 1000).unwrap_err().to_string();
        assert!(error.starts_with("parameters.hypothesis_template is invalid: no {} in it"), "{error}");
    }

    #[test]
    fn parameter_of_another_task_is_named() {
        let check = |parameters: &str, task: TaskName| {
            let parameters: Parameters = serde_json::from_str(parameters).unwrap();
            parameters.check_used(task).map_err(|error| error.to_string())
        };
        for (parameters, used_by) in [
            (r#"{"top_k": 2}"#, vec![TaskName::VisualQuestionAnswering]),
            (r#"{"max_new_tokens": 5}"#, vec![TaskName::VisualQuestionAnswering, TaskName::ImageToText]),
            (r#"{"generate_kwargs": {}}"#, vec![TaskName::VisualQuestionAnswering, TaskName::ImageToText]),
            (r#"{"candidate_labels": []}"#, vec![TaskName::ZeroShotImageClassification]),
            (r#"{"hypothesis_template": "{}"}"#, vec![TaskName::ZeroShotImageClassification]),
            (r#"{"normalize": true}"#, vec![TaskName::FeatureExtraction]),
            (r#"{"truncate": true}"#, vec![TaskName::FeatureExtraction]),
            (r#"{"top_k": null, "truncate": null}"#, TaskName::ALL.map(|(_, task)| task).to_vec()),
        ] {
            for (_, task) in TaskName::ALL {
                assert_eq!(check(parameters, task).is_ok(), used_by.contains(&task), "{parameters} {task:?}");
            }
        }
        let error = check(r#"{"top_k": 2}"#, TaskName::ImageToText).unwrap_err();
        assert_eq!(error, "parameters.top_k is invalid: image-to-text does not use it");
    }

    #[test]
    fn invalid_option_has_the_name_of_its_parameter() {
        for (field, expected) in [
            ("generation.num_answers", "parameters.top_k"),
            ("generation.max_new_tokens", "parameters.max_new_tokens"),
            ("generation.num_beams", "parameters.generation_parameters.num_beams"),
            ("inputs", "inputs"),
        ] {
            let error = RequestError::new(ErrorReason::GenerationOutOfRange).field(field);
            assert_eq!(
                Parameters::named(error),
                RequestError::new(ErrorReason::GenerationOutOfRange).field(expected)
            );
        }
    }

    #[test]
    fn repeated_template_is_bounded() {
        let template = Some("{}".to_owned() + &"x".repeat(1000));
        let parameters = Parameters { hypothesis_template: template, ..Parameters::default() };
        assert_eq!(parameters.hypotheses(&labels(9), 10_000).unwrap().len(), 9);
        let error = parameters.hypotheses(&labels(10), 10_000).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::MessageTooLarge);
    }
}
