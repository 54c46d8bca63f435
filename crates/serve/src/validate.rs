//! A request checked against the limits that need no decoding: what of it is to be done, and what is refused already.

use blip::Generation;
use bytes::Bytes;
use images::fetch::is_data_url;

use crate::{
    errors::{Reason, Refusal},
    place::{Form, Place},
    proto::{Image, ImageQuestions, Question, image::Source},
    settings::RequestLimits,
    wanted::Purpose,
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

/// The texts of an input, by their positions, each fit for work or refused by itself.
pub type Questions = Vec<Result<Query, Refusal>>;

/// A text with what it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The text.
    pub text: String,
    /// What is wanted of it.
    pub wish: Wish,
}

impl Query {
    /// Bytes of all its texts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let candidates = match &self.wish {
            Wish::Choose { among: Among::Given(candidates), .. } => {
                candidates.iter().map(|candidate| candidate.len() + size_of::<String>()).sum()
            }
            _ => 0,
        };
        self.text.len() + candidates
    }
}

/// What is wanted of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// An answer to it.
    Answer(Generation),
    /// The best of given answers.
    Choose {
        /// Which answers.
        among: Among,
        /// How many of them are compared in full.
        shortlist: u32,
        /// How many of them are told.
        num_answers: u32,
    },
    /// A caption that begins with it.
    Caption(Generation),
    /// Whether it describes the image.
    Match,
    /// The text as a vector.
    TextVector,
    /// The image as a vector; there is no text.
    ImageVector,
}

/// Answers to choose from, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Among {
    /// The question's own.
    Given(Vec<String>),
    /// Those of a list that the configuration has.
    Named(String),
}

/// An image of a request.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// It is here.
    Here(ImageFile),
    /// It has to be fetched.
    Elsewhere(Link),
    /// There is none: the texts stand for themselves.
    None,
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
    purpose: Purpose,
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
    Ok(places.zip(inputs).map(|(place, input)| validate_input(place, input, purpose, limits)).collect())
}

fn validate_input(place: Place, input: ImageQuestions, purpose: Purpose, limits: &RequestLimits) -> Input {
    let texts = input.questions.into_iter().enumerate();
    // Only texts that are to be vectors may come without an image.
    let alone = purpose == Purpose::Vector && input.image.is_none();
    let query = |(position, question)| {
        let wish = match purpose {
            Purpose::Vector if !alone => Wish::ImageVector,
            Purpose::Vector => Wish::TextVector,
            Purpose::Match => Wish::Match,
            Purpose::Caption(generation) => Wish::Caption(generation),
            Purpose::Answer(generation) => Wish::Answer(generation),
        };
        validate_question(place, position, question, wish, limits)
    };
    Input {
        place,
        image: if alone { Ok(ImageSource::None) } else { validate_image(place, input.image, limits) },
        questions: texts.map(query).collect(),
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
    wish: Wish,
    limits: &RequestLimits,
) -> Result<Query, Refusal> {
    let Question { text, candidates, candidate_list } = question;
    let may_be_empty = matches!(wish, Wish::Caption(_) | Wish::ImageVector);
    if text.trim().is_empty() && !may_be_empty {
        return Err(Refusal::new(Reason::QuestionEmpty).field(place.question(position)));
    }
    if text.len() > limits.max_question_bytes {
        return Err(Refusal::new(Reason::QuestionTooLong)
            .field(place.question(position))
            .value(format!("{} bytes", text.len()))
            .limit(format!("{} bytes", limits.max_question_bytes)));
    }
    let wish = match (candidates.is_empty(), candidate_list.is_empty(), wish) {
        (false, false, Wish::Answer(_)) => {
            return Err(Refusal::new(Reason::CandidatesTwice).field(place.candidate_list(position)));
        }
        (false, true, Wish::Answer(generation)) => {
            validate_candidates(place, position, &candidates, limits)?;
            choose(Among::Given(candidates), generation, limits)
        }
        (true, false, Wish::Answer(generation)) => choose(Among::Named(candidate_list), generation, limits),
        (_, _, wish) => wish,
    };
    Ok(Query { text, wish })
}

fn choose(among: Among, generation: Generation, limits: &RequestLimits) -> Wish {
    Wish::Choose { among, shortlist: limits.candidate_shortlist, num_answers: generation.num_sequences }
}

fn validate_candidates(
    place: Place,
    position: usize,
    candidates: &[String],
    limits: &RequestLimits,
) -> Result<(), Refusal> {
    let field = place.candidates(position);
    if candidates.len() > limits.max_candidates {
        return Err(Refusal::new(Reason::TooManyCandidates)
            .field(field)
            .value(format!("{} candidates", candidates.len()))
            .limit(format!("{} candidates", limits.max_candidates)));
    }
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.trim().is_empty() {
            return Err(Refusal::new(Reason::CandidateEmpty).field(format!("{field}[{index}]")));
        }
        if candidate.len() > limits.max_question_bytes {
            return Err(Refusal::new(Reason::CandidateTooLong)
                .field(format!("{field}[{index}]"))
                .value(format!("{} bytes", candidate.len()))
                .limit(format!("{} bytes", limits.max_question_bytes)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{proto::AskRequest, settings::Settings};

    const ANSWERS: Purpose = Purpose::Answer(Generation::GREEDY);

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
        validate(inputs, Form::Grpc, ANSWERS, limits).unwrap_err().reason()
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
        let inputs = validate(inputs, Form::Grpc, ANSWERS, &limits).unwrap();
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
    fn candidates_are_checked_one_by_one() {
        let limits = RequestLimits { max_candidates: 2, max_question_bytes: 8, ..limits() };
        let wish = |candidates: &[&str], list: &str| {
            let question = Question {
                text: "what?".to_owned(),
                candidates: candidates.iter().map(ToString::to_string).collect(),
                candidate_list: list.to_owned(),
            };
            let input = ImageQuestions { questions: vec![question], ..input(b"x", &[]) };
            let inputs = validate(vec![input], Form::Grpc, ANSWERS, &limits).unwrap();
            let query = inputs[0].questions[0].clone();
            query.map(|query| query.wish).map_err(|refusal| refusal.to_string())
        };
        let chosen =
            |among| Ok(Wish::Choose { among, shortlist: limits.candidate_shortlist, num_answers: 1 });
        assert_eq!(wish(&["a", "b"], ""), chosen(Among::Given(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(wish(&[], "vqa"), chosen(Among::Named("vqa".to_owned())));
        assert_eq!(wish(&[], ""), Ok(Wish::Answer(Generation::GREEDY)));
        let refused = |candidates, list| wish(candidates, list).unwrap_err();
        let field = "inputs[0].questions[0].candidates";
        assert_eq!(refused(&["a", " "], ""), format!("{field}[1] holds no text"));
        assert_eq!(
            refused(&["too long a one"], ""),
            format!("{field}[0] is 14 bytes long, the limit is 8 bytes")
        );
        assert_eq!(
            refused(&["a", "b", "c"], ""),
            format!("{field} holds 3 candidates, the limit is 2 candidates")
        );
        assert!(refused(&["a"], "vqa").starts_with("inputs[0].questions[0].candidate_list is set"));
    }

    #[test]
    fn only_texts_that_are_to_be_vectors_come_without_an_image() {
        let alone = ImageQuestions { image: None, ..input(b"", &["a red circle"]) };
        let first =
            |input, purpose| validate(vec![input], Form::Vectors, purpose, &limits()).unwrap().remove(0);
        let text = first(alone.clone(), Purpose::Vector);
        assert!(matches!(text.image, Ok(ImageSource::None)));
        assert_eq!(text.questions[0].as_ref().unwrap().wish, Wish::TextVector);
        let image = first(input(b"x", &[""]), Purpose::Vector);
        assert_eq!(image.questions[0].as_ref().unwrap().wish, Wish::ImageVector);
        assert_eq!(first(alone, Purpose::Match).image.unwrap_err().reason(), Reason::ImageMissing);
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
                let _ = validate(request.inputs, Form::Grpc, ANSWERS, &limits());
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
                if let Ok(inputs) = validate(request.inputs, Form::Card, ANSWERS, &limits()) {
                    prop_assert_eq!(inputs.iter().map(|input| input.questions.len()).sum::<usize>(), pairs);
                }
            }
        }
    }
}
