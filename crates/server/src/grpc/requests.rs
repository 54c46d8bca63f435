//! The request messages of `BlipService` in protocol-independent form.

use proto::{
    AskRequest, CaptionRequest, EmbedRequest, ImagePrompts, ImageQuestions, ImageTexts, MatchRequest,
};

use crate::{
    priority::RequestPriority,
    request::{
        field_path::RequestFormat,
        item::{ImageSource, Input, TextInput},
        task::Task,
    },
};

/// The fields of a request message, whichever method it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedRequest {
    /// The images with their texts.
    pub inputs: Vec<Input>,
    /// The task of every item.
    pub task: Task,
    /// The message type, whose field names are used in errors.
    pub format: RequestFormat,
    /// The requested priority.
    pub priority: RequestPriority,
    /// The tag that its responses repeat.
    pub tag: String,
    /// Whether responses come in the order of the request.
    pub in_order: bool,
    /// The name of the model, or an empty string.
    pub model: String,
}

impl From<AskRequest> for DecodedRequest {
    fn from(request: AskRequest) -> Self {
        let priority = request.priority().into();
        let AskRequest { inputs, tag, in_order, model, generation, explain, .. } = request;
        let input = |ImageQuestions { image, questions }| Input {
            image: image.map(source),
            texts: questions.into_iter().map(question).collect(),
        };
        let inputs = inputs.into_iter().map(input).collect();
        let task = Task::Answer { generation: generation.unwrap_or_default().into(), explain };
        Self { inputs, task, format: RequestFormat::GrpcAsk, priority, tag, in_order, model }
    }
}

impl From<CaptionRequest> for DecodedRequest {
    fn from(request: CaptionRequest) -> Self {
        let priority = request.priority().into();
        let CaptionRequest { inputs, tag, in_order, model, generation, stream_tokens, .. } = request;
        let input = |ImagePrompts { image, prompts }| {
            // An image without prompts has one empty prompt.
            let prompts = if prompts.is_empty() { vec![String::new()] } else { prompts };
            Input { image: image.map(source), texts: texts(prompts) }
        };
        let inputs = inputs.into_iter().map(input).collect();
        let task = Task::Caption { generation: generation.unwrap_or_default().into(), stream_tokens };
        Self { inputs, task, format: RequestFormat::GrpcCaption, priority, tag, in_order, model }
    }
}

impl From<MatchRequest> for DecodedRequest {
    fn from(request: MatchRequest) -> Self {
        let priority = request.priority().into();
        let MatchRequest { inputs, tag, in_order, model, .. } = request;
        let input = |input: ImageTexts| Input { image: input.image.map(source), texts: texts(input.texts) };
        let inputs = inputs.into_iter().map(input).collect();
        Self { inputs, task: Task::Match, format: RequestFormat::GrpcMatch, priority, tag, in_order, model }
    }
}

impl From<EmbedRequest> for DecodedRequest {
    /// Each image becomes an input. All texts become one more input, without an image.
    fn from(request: EmbedRequest) -> Self {
        let priority = request.priority().into();
        let EmbedRequest { images, texts: alone, tag, in_order, model, .. } = request;
        let image = |image| Input { image: Some(source(image)), texts: vec![TextInput::default()] };
        let mut inputs: Vec<_> = images.into_iter().map(image).collect();
        if !alone.is_empty() {
            inputs.push(Input { image: None, texts: texts(alone) });
        }
        Self { inputs, task: Task::Embed, format: RequestFormat::GrpcEmbed, priority, tag, in_order, model }
    }
}

fn source(image: proto::Image) -> ImageSource {
    match image.source {
        Some(proto::image::Source::Data(bytes)) => ImageSource::Inline(bytes),
        Some(proto::image::Source::Url(url)) => ImageSource::Remote(url),
        None => ImageSource::Missing,
    }
}

fn question(question: proto::Question) -> TextInput {
    let proto::Question { text, candidates, candidate_list } = question;
    TextInput { text, candidates, candidate_list }
}

fn texts(texts: Vec<String>) -> Vec<TextInput> {
    texts.into_iter().map(TextInput::from).collect()
}

#[cfg(test)]
mod tests {
    use blip::Generation;
    use proptest::prelude::*;
    use prost::Message as _;
    use proto::{Image, image::Source};

    use super::*;
    use crate::{
        config::Settings,
        request::{generation::GenerationOptions, item::ItemTask, validate::validate},
    };

    fn texts_of(input: &Input) -> Vec<&str> {
        input.texts.iter().map(|text| text.text.as_str()).collect()
    }

    #[test]
    fn image_without_prompts_has_one_empty_prompt() {
        let prompts = |prompts: &[&str]| ImagePrompts {
            image: Some(Image::default()),
            prompts: prompts.iter().map(ToString::to_string).collect(),
        };
        let inputs = vec![prompts(&[]), prompts(&["a picture of", ""])];
        let request =
            DecodedRequest::from(CaptionRequest { inputs, stream_tokens: true, ..Default::default() });
        assert_eq!(texts_of(&request.inputs[0]), [""]);
        assert_eq!(texts_of(&request.inputs[1]), ["a picture of", ""]);
        let generation = GenerationOptions::default();
        assert_eq!(request.task, Task::Caption { generation, stream_tokens: true });
    }

    #[test]
    fn texts_to_embed_follow_the_images() {
        let texts = vec!["a red circle".to_owned(), "a blue square".to_owned()];
        let request = DecodedRequest::from(EmbedRequest {
            images: vec![Image::default(); 2],
            texts,
            ..Default::default()
        });
        let images: Vec<bool> = request.inputs.iter().map(|input| input.image.is_some()).collect();
        assert_eq!(images, [true, true, false]);
        assert_eq!(texts_of(&request.inputs[2]), ["a red circle", "a blue square"]);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_and_validate_without_panic(
            images in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..5),
            question in "\\PC{0,20}",
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let input = |image: Vec<u8>| ImageQuestions {
                image: Some(Image { source: Some(Source::Data(image.into())) }),
                questions: vec![proto::Question { text: question.clone(), ..Default::default() }],
            };
            let inputs = images.into_iter().map(input).collect();
            let mut bytes = AskRequest { inputs, ..AskRequest::default() }.encode_to_vec();
            for (index, byte) in damage {
                if !bytes.is_empty() {
                    let index = index.index(bytes.len());
                    bytes[index] = byte;
                }
            }
            if let Ok(request) = AskRequest::decode(bytes.as_slice()) {
                let request = DecodedRequest::from(request);
                let task = ItemTask::Answer(Generation::GREEDY);
                let _ = validate(request.inputs, request.format, &task, &Settings::default().limits);
            }
        }
    }
}
