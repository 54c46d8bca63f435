//! A request checked against the limits that need no decoding: what of it is to be done, and what is refused already.

use bytes::Bytes;
use images::fetch::is_data_url;

use crate::{
    errors::{Reason, Refusal},
    place::{Form, Place},
    proto::{Image, ImageQuestions, Question, image::Source},
    settings::RequestLimits,
};

/// An image of a request with its questions, each fit for work or refused by itself.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where it stands in the request.
    pub place: Place,
    /// Where the image is, or why there is none.
    pub image: Result<ImageSource, Refusal>,
    /// What is asked about it.
    pub questions: Questions,
}

/// The questions of an input, by their positions, each fit for work or refused by itself.
pub type Questions = Vec<Result<String, Refusal>>;

/// An image of a request.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// It is here.
    Here(ImageFile),
    /// It has to be fetched.
    Elsewhere(Link),
}

/// A URL, unchecked.
#[derive(Clone, Debug)]
pub struct Link {
    /// The URL.
    pub url: String,
    /// Its path in the request, for messages.
    pub field: String,
}

/// An image file, undecoded.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// What it holds.
    pub content: FileContent,
    /// The path in the request of what brought it, for messages.
    pub field: String,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub enum FileContent {
    /// Its bytes.
    Bytes(Bytes),
    /// A `data:` URL that spells its bytes out.
    DataUrl(String),
}

/// Sorts a request into its inputs.
///
/// # Errors
/// A [`Refusal`] of the whole call if it asks nothing, or asks for more than one request may.
pub fn validate(
    inputs: Vec<ImageQuestions>,
    form: Form,
    limits: &RequestLimits,
) -> Result<Vec<Input>, Refusal> {
    if inputs.is_empty() {
        return Err(Refusal::new(Reason::EmptyRequest).field(form.images()));
    }
    if inputs.len() > limits.max_images_per_request {
        return Err(Refusal::new(Reason::TooManyImages)
            .field(form.images())
            .value(format!("{} images", inputs.len()))
            .limit(format!("{} images", limits.max_images_per_request)));
    }
    let places = (0..).map(|index| Place { form, index });
    if let Some((bare, _)) = places.clone().zip(&inputs).find(|(_, input)| input.questions.is_empty()) {
        return Err(Refusal::new(Reason::NoQuestions).field(bare.questions()));
    }
    let questions: usize = inputs.iter().map(|input| input.questions.len()).sum();
    if questions > limits.max_questions_per_request {
        return Err(Refusal::new(Reason::TooManyQuestions)
            .field(form.questions())
            .value(format!("{questions} questions"))
            .limit(format!("{} questions", limits.max_questions_per_request)));
    }
    Ok(places.zip(inputs).map(|(place, input)| validate_input(place, input, limits)).collect())
}

fn validate_input(place: Place, input: ImageQuestions, limits: &RequestLimits) -> Input {
    let texts = input.questions.into_iter().enumerate();
    Input {
        place,
        image: validate_image(place, input.image, limits),
        questions: texts
            .map(|(position, question)| validate_question(place, position, question, limits))
            .collect(),
    }
}

fn validate_image(
    place: Place,
    image: Option<Image>,
    limits: &RequestLimits,
) -> Result<ImageSource, Refusal> {
    let here = |content, field| ImageSource::Here(ImageFile { content, field });
    let (data, url) = (place.image_data(), place.image_url());
    match image.and_then(|image| image.source) {
        None => Err(Refusal::new(Reason::ImageMissing).field(place.image())),
        Some(Source::Url(text)) if is_data_url(&text) => Ok(here(FileContent::DataUrl(text), url)),
        Some(Source::Url(text)) => Ok(ImageSource::Elsewhere(Link { url: text, field: url })),
        Some(Source::Data(bytes)) if bytes.is_empty() => Err(Refusal::new(Reason::ImageEmpty).field(data)),
        Some(Source::Data(bytes)) if bytes.len() > limits.max_image_bytes => {
            Err(Refusal::new(Reason::ImageTooLarge)
                .field(data)
                .value(format!("{} bytes", bytes.len()))
                .limit(format!("{} bytes", limits.max_image_bytes)))
        }
        Some(Source::Data(bytes)) => Ok(here(FileContent::Bytes(bytes), data)),
    }
}

fn validate_question(
    place: Place,
    position: usize,
    question: Question,
    limits: &RequestLimits,
) -> Result<String, Refusal> {
    let text = question.text;
    if text.trim().is_empty() {
        return Err(Refusal::new(Reason::QuestionEmpty).field(place.question(position)));
    }
    if text.len() > limits.max_question_bytes {
        return Err(Refusal::new(Reason::QuestionTooLong)
            .field(place.question(position))
            .value(format!("{} bytes", text.len()))
            .limit(format!("{} bytes", limits.max_question_bytes)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{proto::AskRequest, settings::Settings};

    fn limits() -> RequestLimits {
        Settings::default().limits
    }

    fn input(image: &[u8], questions: &[&str]) -> ImageQuestions {
        let question = |text: &&str| Question { text: (*text).to_owned(), ..Question::default() };
        ImageQuestions {
            image: Some(Image { source: Some(Source::Data(Bytes::copy_from_slice(image))) }),
            questions: questions.iter().map(question).collect(),
        }
    }

    fn refused_call(inputs: Vec<ImageQuestions>, limits: &RequestLimits) -> Reason {
        validate(inputs, Form::Grpc, limits).unwrap_err().reason()
    }

    #[test]
    fn a_request_that_asks_nothing_or_too_much_is_refused_as_a_whole() {
        let limits = RequestLimits { max_images_per_request: 2, max_questions_per_request: 3, ..limits() };
        assert_eq!(refused_call(vec![], &limits), Reason::EmptyRequest);
        assert_eq!(refused_call(vec![input(b"x", &["q"]), input(b"x", &[])], &limits), Reason::NoQuestions);
        assert_eq!(refused_call(vec![input(b"x", &["q"]); 3], &limits), Reason::TooManyImages);
        assert_eq!(refused_call(vec![input(b"x", &["q", "r"]); 2], &limits), Reason::TooManyQuestions);
    }

    #[test]
    fn a_bad_item_is_refused_by_itself() {
        let limits = RequestLimits { max_image_bytes: 4, max_question_bytes: 8, ..limits() };
        let without = |image| ImageQuestions { image, ..input(b"", &["what?"]) };
        let inputs = vec![
            input(b"good", &["what?", " \t\n", "too long a question"]),
            input(b"", &["what?"]),
            input(b"large", &["what?"]),
            without(None),
            without(Some(Image { source: None })),
        ];
        let inputs = validate(inputs, Form::Grpc, &limits).unwrap();
        let images: Vec<_> =
            inputs.iter().map(|input| input.image.as_ref().err().map(Refusal::reason)).collect();
        assert_eq!(
            images,
            [
                None,
                Some(Reason::ImageEmpty),
                Some(Reason::ImageTooLarge),
                Some(Reason::ImageMissing),
                Some(Reason::ImageMissing)
            ]
        );
        let questions: Vec<_> =
            inputs[0].questions.iter().map(|text| text.as_ref().err().map(Refusal::reason)).collect();
        assert_eq!(questions, [None, Some(Reason::QuestionEmpty), Some(Reason::QuestionTooLong)]);
        let message = inputs[0].questions[2].as_ref().unwrap_err().to_string();
        assert_eq!(message, "inputs[0].questions[2].text is 19 bytes long, the limit is 8 bytes");
    }

    #[test]
    fn an_image_by_url_is_elsewhere_unless_the_url_itself_holds_it() {
        let by_url = |url: &str| {
            let image = Image { source: Some(Source::Url(url.to_owned())) };
            validate_image(Place { form: Form::Grpc, index: 7 }, Some(image), &limits()).unwrap()
        };
        let ImageSource::Elsewhere(Link { url, field }) = by_url("https://example.org/cat.png") else {
            panic!()
        };
        assert_eq!((url.as_str(), field.as_str()), ("https://example.org/cat.png", "inputs[7].image.url"));
        let ImageSource::Here(file) = by_url("DATA:,cat") else { panic!() };
        assert_eq!(file.field, "inputs[7].image.url");
        assert!(matches!(file.content, FileContent::DataUrl(url) if url == "DATA:,cat"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_validator_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = AskRequest::decode(bytes.as_slice()) {
                let _ = validate(request.inputs, Form::Grpc, &limits());
            }
        }

        #[test]
        fn no_damaged_request_makes_the_validator_panic(
            images in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..5),
            question in "\\PC{0,20}",
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let inputs = images.iter().map(|image| input(image, &[&question])).collect();
            let mut bytes = AskRequest { inputs, ..AskRequest::default() }.encode_to_vec();
            for (place, byte) in damage {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
            }
            if let Ok(request) = AskRequest::decode(bytes.as_slice()) {
                let pairs: usize = request.inputs.iter().map(|input| input.questions.len()).sum();
                if let Ok(inputs) = validate(request.inputs, Form::Card, &limits()) {
                    prop_assert_eq!(inputs.iter().map(|input| input.questions.len()).sum::<usize>(), pairs);
                }
            }
        }
    }
}
