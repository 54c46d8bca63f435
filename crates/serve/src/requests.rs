//! The requests of `BlipService`'s methods, as the front end takes them.

use scheduler::Priority;

use crate::{
    place::Form,
    proto::{
        self, AskRequest, CaptionRequest, EmbedRequest, ImagePrompts, ImageQuestions, ImageTexts,
        MatchRequest, Question,
    },
    wanted::Wanted,
};

/// A request of one of the methods.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The images, each with its texts.
    pub inputs: Vec<ImageQuestions>,
    /// What is wanted of them.
    pub wanted: Wanted,
    /// How the request calls its parts.
    pub form: Form,
    /// Its class.
    pub priority: Priority,
    /// What tells its responses from those of others.
    pub tag: String,
    /// Whether responses are wanted in its order.
    pub in_order: bool,
    /// Which model is asked.
    pub model: String,
}

impl From<AskRequest> for Opened {
    fn from(request: AskRequest) -> Self {
        let priority = request.priority().into();
        let AskRequest { inputs, tag, in_order, model, generation, .. } = request;
        let wanted = Wanted::Answers(generation.unwrap_or_default());
        Self { inputs, wanted, form: Form::Grpc, priority, tag, in_order, model }
    }
}

impl From<CaptionRequest> for Opened {
    fn from(request: CaptionRequest) -> Self {
        let priority = request.priority().into();
        let CaptionRequest { inputs, tag, in_order, model, generation, stream_tokens, .. } = request;
        let input = |ImagePrompts { image, prompts }| {
            // No prompt at all is one empty one.
            let prompts = if prompts.is_empty() { vec![String::new()] } else { prompts };
            ImageQuestions { image, questions: questions(prompts) }
        };
        let inputs = inputs.into_iter().map(input).collect();
        let wanted = Wanted::Captions { generation: generation.unwrap_or_default(), pieces: stream_tokens };
        Self { inputs, wanted, form: Form::Prompts, priority, tag, in_order, model }
    }
}

impl From<MatchRequest> for Opened {
    fn from(request: MatchRequest) -> Self {
        let priority = request.priority().into();
        let MatchRequest { inputs, tag, in_order, model, .. } = request;
        let input = |ImageTexts { image, texts }| ImageQuestions { image, questions: questions(texts) };
        let inputs = inputs.into_iter().map(input).collect();
        Self { inputs, wanted: Wanted::Matches, form: Form::Texts, priority, tag, in_order, model }
    }
}

impl From<EmbedRequest> for Opened {
    /// Each image is an input of its own; the texts are one more, without an image.
    fn from(request: EmbedRequest) -> Self {
        let priority = request.priority().into();
        let EmbedRequest { images, texts, tag, in_order, model, .. } = request;
        let image = |image| ImageQuestions { image: Some(image), questions: vec![Question::default()] };
        let mut inputs: Vec<_> = images.into_iter().map(image).collect();
        if !texts.is_empty() {
            inputs.push(ImageQuestions { image: None, questions: questions(texts) });
        }
        Self { inputs, wanted: Wanted::Vectors, form: Form::Vectors, priority, tag, in_order, model }
    }
}

fn questions(texts: Vec<String>) -> Vec<Question> {
    texts.into_iter().map(|text| Question { text, ..Question::default() }).collect()
}

impl From<proto::Priority> for Priority {
    fn from(priority: proto::Priority) -> Self {
        match priority {
            proto::Priority::High => Self::High,
            proto::Priority::Unspecified | proto::Priority::Normal => Self::Normal,
            proto::Priority::Low => Self::Low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{GenerationOptions, Image};

    fn texts(input: &ImageQuestions) -> Vec<&str> {
        input.questions.iter().map(|question| question.text.as_str()).collect()
    }

    #[test]
    fn an_image_without_a_prompt_is_captioned_from_nothing() {
        let prompts = |prompts: &[&str]| ImagePrompts {
            image: Some(Image::default()),
            prompts: prompts.iter().map(ToString::to_string).collect(),
        };
        let inputs = vec![prompts(&[]), prompts(&["a picture of", ""])];
        let opened = Opened::from(CaptionRequest { inputs, stream_tokens: true, ..Default::default() });
        assert_eq!(texts(&opened.inputs[0]), [""]);
        assert_eq!(texts(&opened.inputs[1]), ["a picture of", ""]);
        let generation = GenerationOptions::default();
        assert_eq!(opened.wanted, Wanted::Captions { generation, pieces: true });
    }

    #[test]
    fn texts_to_embed_are_an_input_behind_the_images() {
        let texts_alone = vec!["a red circle".to_owned(), "a blue square".to_owned()];
        let request =
            EmbedRequest { images: vec![Image::default(); 2], texts: texts_alone, ..Default::default() };
        let opened = Opened::from(request);
        let images: Vec<bool> = opened.inputs.iter().map(|input| input.image.is_some()).collect();
        assert_eq!(images, [true, true, false]);
        assert_eq!(texts(&opened.inputs[2]), ["a red circle", "a blue square"]);
    }
}
