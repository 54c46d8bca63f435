//! Tests of the validation of requests.

use proptest::prelude::*;

use super::*;
use crate::config::Settings;

const ANSWER: ItemTask = ItemTask::Answer(Generation::GREEDY);

fn limits() -> RequestLimits {
    Settings::default().limits
}

fn input(image: &[u8], texts: &[&str]) -> Input {
    Input {
        image: Some(ImageSource::Inline(Bytes::copy_from_slice(image))),
        texts: texts.iter().map(|text| (*text).to_owned().into()).collect(),
    }
}

fn request_error(inputs: Vec<Input>, limits: &RequestLimits) -> ErrorReason {
    validate(inputs, RequestFormat::GrpcAsk, &ANSWER, limits).unwrap_err().reason()
}

#[test]
fn empty_or_oversized_request_fails_as_a_whole() {
    let limits = RequestLimits { max_images_per_request: 2, max_questions_per_request: 3, ..limits() };
    assert_eq!(request_error(vec![], &limits), ErrorReason::EmptyRequest);
    assert_eq!(request_error(vec![input(b"x", &["q"]), input(b"x", &[])], &limits), ErrorReason::NoQuestions);
    assert_eq!(request_error(vec![input(b"x", &["q"]); 3], &limits), ErrorReason::TooManyImages);
    assert_eq!(request_error(vec![input(b"x", &["q", "r"]); 2], &limits), ErrorReason::TooManyQuestions);
}

#[test]
fn invalid_item_fails_alone() {
    let limits = RequestLimits { max_image_bytes: 4, max_question_bytes: 8, ..limits() };
    let inputs = vec![
        input(b"good", &["what?", " \t\n", "too long a question"]),
        input(b"", &["what?"]),
        input(b"large", &["what?"]),
        Input { image: None, ..input(b"", &["what?"]) },
    ];
    let inputs = validate(inputs, RequestFormat::GrpcAsk, &ANSWER, &limits).unwrap();
    let images: Vec<_> =
        inputs.iter().map(|input| input.image.as_ref().err().map(RequestError::reason)).collect();
    assert_eq!(
        images,
        [
            None,
            Some(ErrorReason::ImageEmpty),
            Some(ErrorReason::ImageTooLarge),
            Some(ErrorReason::ImageMissing)
        ]
    );
    let items: Vec<_> =
        inputs[0].items.iter().map(|item| item.as_ref().err().map(RequestError::reason)).collect();
    assert_eq!(items, [None, Some(ErrorReason::QuestionEmpty), Some(ErrorReason::QuestionTooLong)]);
    let message = inputs[0].items[2].as_ref().unwrap_err().to_string();
    assert_eq!(message, "inputs[0].questions[2].text too long: 19 bytes, 8 bytes allowed");
}

#[test]
fn each_candidate_is_checked() {
    let limits = RequestLimits { max_candidates: 2, max_question_bytes: 8, ..limits() };
    let task = |candidates: &[&str], list: &str| {
        let text = TextInput {
            text: "what?".to_owned(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
            candidate_list: list.to_owned(),
        };
        let input = Input { texts: vec![text], ..input(b"x", &[]) };
        let inputs = validate(vec![input], RequestFormat::GrpcAsk, &ANSWER, &limits).unwrap();
        inputs[0].items[0].clone().map(|item| item.task).map_err(|error| error.to_string())
    };
    let ranked = |candidates| {
        let shortlist = limits.candidate_shortlist;
        Ok(ItemTask::Rank { candidates, shortlist, num_answers: 1, explain: false })
    };
    assert_eq!(task(&["a", "b"], ""), ranked(CandidateSource::Given(vec!["a".to_owned(), "b".to_owned()])));
    assert_eq!(task(&[], "vqa"), ranked(CandidateSource::Named("vqa".to_owned())));
    assert_eq!(task(&[], ""), Ok(ItemTask::Answer(Generation::GREEDY)));
    let error = |candidates, list| task(candidates, list).unwrap_err();
    let field = "inputs[0].questions[0].candidates";
    assert_eq!(error(&["a", " "], ""), format!("{field}[1] has no text"));
    assert_eq!(error(&["too long a one"], ""), format!("{field}[0] too long: 14 bytes, 8 bytes allowed"));
    assert_eq!(
        error(&["a", "b", "c"], ""),
        format!("too many candidates in {field}: 3 candidates, 2 candidates allowed")
    );
    assert!(
        error(&["a"], "vqa").starts_with("both inputs[0].questions[0].candidate_list and candidates are set")
    );
}

#[test]
fn only_texts_to_embed_come_without_image() {
    let text = Input { image: None, ..input(b"", &["a red circle"]) };
    let first =
        |input, task| validate(vec![input], RequestFormat::GrpcEmbed, &task, &limits()).unwrap().remove(0);
    let validated = first(text.clone(), ItemTask::EmbedImage);
    assert!(matches!(validated.image, Ok(ValidatedImage::None)));
    assert_eq!(validated.items[0].as_ref().unwrap().task, ItemTask::EmbedText);
    let validated = first(input(b"x", &[""]), ItemTask::EmbedImage);
    assert_eq!(validated.items[0].as_ref().unwrap().task, ItemTask::EmbedImage);
    assert_eq!(first(text, ItemTask::Match).image.unwrap_err().reason(), ErrorReason::ImageMissing);
}

#[test]
fn data_url_is_a_file_and_other_url_is_fetched() {
    let by_url = |url: &str| {
        let image = ImageSource::Remote(url.to_owned());
        let path = FieldPath { format: RequestFormat::GrpcAsk, index: 7 };
        validate_image(path, Some(image), &limits()).unwrap()
    };
    let ValidatedImage::Url(ImageUrl { url, field }) = by_url("https://example.org/cat.png") else {
        panic!()
    };
    assert_eq!((url.as_str(), field.as_str()), ("https://example.org/cat.png", "inputs[7].image.url"));
    let ValidatedImage::File(file) = by_url("DATA:,cat") else { panic!() };
    assert_eq!(file.field, "inputs[7].image.url");
    assert!(matches!(file.content, FileContent::DataUrl(url) if url == "DATA:,cat"));
}

proptest! {
    #[test]
    fn validation_keeps_the_number_of_items(
        images in proptest::collection::vec(
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
            0..5,
        ),
        texts in proptest::collection::vec("\\PC{0,20}", 0..4),
        candidates in proptest::collection::vec("\\PC{0,9}", 0..3),
        candidate_list in "[a-z]{0,3}",
    ) {
        let text = |text: &String| TextInput {
            text: text.clone(),
            candidates: candidates.clone(),
            candidate_list: candidate_list.clone(),
        };
        let input = |image: Option<Vec<u8>>| Input {
            image: image.map(|bytes| ImageSource::Inline(bytes.into())),
            texts: texts.iter().map(text).collect(),
        };
        let inputs: Vec<_> = images.into_iter().map(input).collect();
        let items: usize = inputs.iter().map(|input| input.texts.len()).sum();
        if let Ok(inputs) = validate(inputs, RequestFormat::Json, &ANSWER, &limits()) {
            prop_assert_eq!(inputs.iter().map(|input| input.items.len()).sum::<usize>(), items);
        }
    }
}
