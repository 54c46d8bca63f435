//! Validation that needs no decoding: request limits, empty fields, candidates.

use blip::Generation;
use bytes::Bytes;
use images::fetch::is_data_url;

use crate::{
    config::sections::limits::RequestLimits,
    error::{ErrorReason, RequestError},
    request::{
        field_path::{FieldPath, RequestFormat},
        item::{
            CandidateSource, FileContent, ImageFile, ImageSource, ImageUrl, Input, ItemTask, TextInput,
            ValidatedImage, ValidatedInput, ValidatedItem,
        },
    },
};

/// Validates the inputs of a request whose items all have the task `task`.
///
/// Errors of one image or text are returned in its place.
///
/// # Errors
/// A [`RequestError`] of the whole request if it is empty or exceeds a limit on the number of its
/// parts.
pub fn validate(
    inputs: Vec<Input>,
    format: RequestFormat,
    task: &ItemTask,
    limits: &RequestLimits,
) -> Result<Vec<ValidatedInput>, RequestError> {
    if inputs.is_empty() {
        return Err(RequestError::new(ErrorReason::EmptyRequest).field(format.images()));
    }
    if inputs.len() > limits.max_images_per_request {
        return Err(RequestError::new(ErrorReason::TooManyImages)
            .field(format.images())
            .value(format!("{} images", inputs.len()))
            .limit(format!("{} images", limits.max_images_per_request)));
    }
    let paths = (0..).map(|index| FieldPath { format, index });
    if let Some((path, _)) = paths.clone().zip(&inputs).find(|(_, input)| input.texts.is_empty()) {
        return Err(RequestError::new(ErrorReason::NoQuestions).field(path.questions()));
    }
    let texts: usize = inputs.iter().map(|input| input.texts.len()).sum();
    if texts > limits.max_questions_per_request {
        return Err(RequestError::new(ErrorReason::TooManyQuestions)
            .field(format.questions())
            .value(format!("{texts} questions"))
            .limit(format!("{} questions", limits.max_questions_per_request)));
    }
    Ok(paths.zip(inputs).map(|(path, input)| validate_input(path, input, task, limits)).collect())
}

fn validate_input(path: FieldPath, input: Input, task: &ItemTask, limits: &RequestLimits) -> ValidatedInput {
    // Only texts to embed come without an image.
    let (image, task) = match (input.image, task) {
        (None, ItemTask::EmbedImage) => (Ok(ValidatedImage::None), &ItemTask::EmbedText),
        (image, task) => (validate_image(path, image, limits), task),
    };
    let texts = input.texts.into_iter().enumerate();
    let items = texts.map(|(position, text)| validate_text(path, position, text, task.clone(), limits));
    ValidatedInput { path, image, items: items.collect() }
}

fn validate_image(
    path: FieldPath,
    image: Option<ImageSource>,
    limits: &RequestLimits,
) -> Result<ValidatedImage, RequestError> {
    let file = |content, field| ValidatedImage::File(ImageFile { content, field });
    match image {
        None | Some(ImageSource::Missing) => {
            Err(RequestError::new(ErrorReason::ImageMissing).field(path.image()))
        }
        Some(ImageSource::Undecodable(cause)) => {
            Err(RequestError::new(ErrorReason::ImageUnreadable).field(path.image_data()).cause(cause))
        }
        Some(ImageSource::Remote(url)) if is_data_url(&url) => {
            Ok(file(FileContent::DataUrl(url), path.image_url()))
        }
        Some(ImageSource::Remote(url)) => Ok(ValidatedImage::Url(ImageUrl { url, field: path.image_url() })),
        Some(ImageSource::Inline(bytes)) => {
            let field = path.image_data();
            check_size(&bytes, &field, limits)?;
            Ok(file(FileContent::Bytes(bytes), field))
        }
    }
}

fn check_size(bytes: &Bytes, field: &str, limits: &RequestLimits) -> Result<(), RequestError> {
    if bytes.is_empty() {
        return Err(RequestError::new(ErrorReason::ImageEmpty).field(field));
    }
    if bytes.len() > limits.max_image_bytes {
        return Err(RequestError::new(ErrorReason::ImageTooLarge)
            .field(field)
            .value(format!("{} bytes", bytes.len()))
            .limit(format!("{} bytes", limits.max_image_bytes)));
    }
    Ok(())
}

fn validate_text(
    path: FieldPath,
    position: usize,
    text: TextInput,
    task: ItemTask,
    limits: &RequestLimits,
) -> Result<ValidatedItem, RequestError> {
    let TextInput { text, candidates, candidate_list } = text;
    let may_be_empty = matches!(task, ItemTask::Caption(_) | ItemTask::EmbedImage);
    if text.trim().is_empty() && !may_be_empty {
        return Err(RequestError::new(ErrorReason::QuestionEmpty).field(path.question(position)));
    }
    if text.len() > limits.max_question_bytes {
        return Err(RequestError::new(ErrorReason::QuestionTooLong)
            .field(path.question(position))
            .value(format!("{} bytes", text.len()))
            .limit(format!("{} bytes", limits.max_question_bytes)));
    }
    let task = match (candidates.is_empty(), candidate_list.is_empty(), task) {
        (false, false, ItemTask::Answer(_)) => {
            return Err(RequestError::new(ErrorReason::CandidatesTwice).field(path.candidate_list(position)));
        }
        (false, true, ItemTask::Answer(generation)) => {
            validate_candidates(path, position, &candidates, limits)?;
            rank(CandidateSource::Given(candidates), generation, limits)
        }
        (true, false, ItemTask::Answer(generation)) => {
            rank(CandidateSource::Named(candidate_list), generation, limits)
        }
        (_, _, task) => task,
    };
    Ok(ValidatedItem { text, task })
}

fn rank(candidates: CandidateSource, generation: Generation, limits: &RequestLimits) -> ItemTask {
    let shortlist = limits.candidate_shortlist;
    let Generation { num_sequences: num_answers, explain, .. } = generation;
    ItemTask::Rank { candidates, shortlist, num_answers, explain }
}

fn validate_candidates(
    path: FieldPath,
    position: usize,
    candidates: &[String],
    limits: &RequestLimits,
) -> Result<(), RequestError> {
    let field = path.candidates(position);
    if candidates.len() > limits.max_candidates {
        return Err(RequestError::new(ErrorReason::TooManyCandidates)
            .field(field)
            .value(format!("{} candidates", candidates.len()))
            .limit(format!("{} candidates", limits.max_candidates)));
    }
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.trim().is_empty() {
            return Err(RequestError::new(ErrorReason::CandidateEmpty).field(format!("{field}[{index}]")));
        }
        if candidate.len() > limits.max_question_bytes {
            return Err(RequestError::new(ErrorReason::CandidateTooLong)
                .field(format!("{field}[{index}]"))
                .value(format!("{} bytes", candidate.len()))
                .limit(format!("{} bytes", limits.max_question_bytes)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
