//! A request as a form of HTML (`multipart/form-data`): image files as they are, read piece by piece.

use multer::{Field, Multipart};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IntoDeserializer as _, value},
};

use crate::{
    error::{ErrorReason, RequestError},
    grpc::codec::MAX_MESSAGES,
    http::{
        body::Upload,
        inference::{
            ask_request::read_json,
            payload::{Endpoint, Milliseconds, Options, Payload, Texts, file},
            questions::object,
            task_requests::prompts,
        },
    },
    priority::RequestPriority,
    request::{
        field_path::RequestFormat,
        generation::GenerationOptions,
        item::{ImageSource, TextInput},
        task::Task,
    },
};

/// A form as far as it was read.
#[derive(Default)]
struct Fields {
    images: Vec<ImageSource>,
    shared: Vec<String>,
    texts: Option<Vec<Vec<String>>>,
    secret_token: Option<String>,
    details: Option<bool>,
    stream: Option<bool>,
    priority: Option<RequestPriority>,
    timeout_ms: Option<Milliseconds>,
    model: Option<String>,
    generation: Option<GenerationOptions>,
    stream_tokens: Option<bool>,
}

/// Options as a field of their own: an object, as in JSON.
#[derive(Deserialize)]
#[serde(transparent)]
struct Generation(#[serde(deserialize_with = "object")] GenerationOptions);

/// Reads a request of this kind with this content type.
///
/// # Errors
/// A [`RequestError`] of the body, or one that names the field at fault.
pub(crate) async fn read_form(
    kind: Endpoint,
    content_type: &str,
    upload: Upload,
) -> Result<Payload, RequestError> {
    let boundary = multer::parse_boundary(content_type).map_err(unreadable)?;
    let mut form = Multipart::new(upload, boundary);
    let mut fields = Fields::default();
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        fields.add(kind, field).await?;
        if fields.images.len() + fields.shared.len() > MAX_MESSAGES {
            return Err(RequestError::new(ErrorReason::PayloadTooManyValues)
                .field("the form")
                .value(format!("{} images and questions", fields.images.len() + fields.shared.len()))
                .limit(format!("{MAX_MESSAGES} images and questions")));
        }
    }
    fields.payload(kind)
}

impl Fields {
    async fn add(&mut self, kind: Endpoint, field: Field<'_>) -> Result<(), RequestError> {
        let name = field.name().unwrap_or_default().to_owned();
        let content = field.bytes().await.map_err(unreadable)?;
        match name.as_str() {
            "image" => self.images.push(file(content)),
            "text" if kind == Endpoint::Match => self.shared.push(text(&name, &content)?),
            "question" if kind != Endpoint::Match => self.shared.push(text(&name, &content)?),
            "questions" if kind != Endpoint::Match => {
                self.shared.extend(read_json::<Vec<String>>(&content, &name)?);
            }
            "texts" => set(&mut self.texts, &name, json(&name, &content)?)?,
            "secret_token" => set(&mut self.secret_token, &name, text(&name, &content)?)?,
            "model" => set(&mut self.model, &name, text(&name, &content)?)?,
            "generation" => {
                let Generation(generation) = json(&name, &content)?;
                set(&mut self.generation, &name, generation)?;
            }
            "stream_tokens" => set(&mut self.stream_tokens, &name, json(&name, &content)?)?,
            "details" => set(&mut self.details, &name, json(&name, &content)?)?,
            "stream" => set(&mut self.stream, &name, json(&name, &content)?)?,
            "timeout_ms" => set(&mut self.timeout_ms, &name, json(&name, &content)?)?,
            "priority" => {
                let class = text(&name, &content)?;
                let class = RequestPriority::deserialize(class.as_str().into_deserializer())
                    .map_err(|error: value::Error| invalid(&name, error))?;
                set(&mut self.priority, &name, class)?;
            }
            _ => return Err(invalid("the form", format_args!("it has an unknown field `{name}`"))),
        }
        Ok(())
    }

    fn payload(self, kind: Endpoint) -> Result<Payload, RequestError> {
        let Self { images, shared, texts, secret_token, details, stream, priority, timeout_ms, .. } = self;
        let format = match (kind, &texts) {
            (Endpoint::Match, None) => RequestFormat::FormMatch,
            (_, texts) => RequestFormat::Form { shared_questions: texts.is_none() },
        };
        let list = |texts: Vec<String>| match kind {
            Endpoint::Caption => prompts(texts),
            _ => texts.into_iter().map(TextInput::from).collect(),
        };
        let texts = match texts {
            None => Texts::Shared(list(shared)),
            Some(lists) if shared.is_empty() => Texts::Each(lists.into_iter().map(list).collect()),
            Some(_) => return Err(invalid("texts", "it stands beside what all images share")),
        };
        let options = Options {
            details: details.unwrap_or_default(),
            stream: stream.unwrap_or_default(),
            priority: priority.unwrap_or_default(),
            timeout_ms,
        };
        let task = match (kind, self.generation, self.stream_tokens) {
            (Endpoint::Ask, generation, None) => Task::Answer(generation.unwrap_or_default()),
            (Endpoint::Caption, generation, stream_tokens) => Task::Caption {
                generation: generation.unwrap_or_default(),
                stream_tokens: stream_tokens.unwrap_or_default(),
            },
            (Endpoint::Match, None, None) => Task::Match,
            _ => return Err(invalid("the form", "it has options that are not those of this path")),
        };
        let model = self.model.unwrap_or_default();
        Ok(Payload { secret_token, images, texts, task, model, options, format })
    }
}

fn set<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), RequestError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(name, "it is given twice")),
    }
}

fn text(name: &str, content: &[u8]) -> Result<String, RequestError> {
    let text = str::from_utf8(content).map_err(|error| invalid(name, error))?;
    Ok(text.to_owned())
}

fn json<T: DeserializeOwned>(name: &str, content: &[u8]) -> Result<T, RequestError> {
    read_json(content, name)
}

fn invalid(field: &str, cause: impl ToString) -> RequestError {
    RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause)
}

/// What the body itself was refused for, or what is wrong with the form.
fn unreadable(error: multer::Error) -> RequestError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<RequestError>() {
            Ok(refusal) => *refusal,
            Err(cause) => RequestError::new(ErrorReason::BodyUnreadable).cause(cause),
        },
        error => RequestError::new(ErrorReason::BodyUnreadable).cause(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use futures::stream;
    use http::HeaderMap;

    use super::*;
    use crate::request::memory_budget::MemoryBudget;

    const CONTENT_TYPE: &str = "multipart/form-data; boundary=b";

    fn form(fields: &[(&str, &str)]) -> String {
        let part = |(name, content): &(&str, &str)| {
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
        };
        fields.iter().map(part).collect::<String>() + "--b--\r\n"
    }

    async fn read(body: String, max_bytes: usize) -> Result<Payload, RequestError> {
        read_as(Endpoint::Ask, body, max_bytes).await
    }

    async fn read_as(kind: Endpoint, body: String, max_bytes: usize) -> Result<Payload, RequestError> {
        let pieces: Vec<_> =
            body.into_bytes().chunks(7).map(|piece| Ok::<_, multer::Error>(piece.to_vec())).collect();
        let room = MemoryBudget::new(1 << 20, max_bytes, Duration::from_secs(20));
        let upload = Upload::new(&HeaderMap::new(), Body::from_stream(stream::iter(pieces)), room)?;
        read_form(kind, CONTENT_TYPE, upload).await
    }

    async fn refused(fields: &[(&str, &str)]) -> String {
        read(form(fields), 1 << 20).await.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn files_and_shared_questions_are_read_in_their_order() {
        let fields = [
            ("image", "first"),
            ("question", "what?"),
            ("questions", r#"["who?", "why?"]"#),
            ("image", "second"),
            ("priority", "high"),
            ("details", "true"),
            ("timeout_ms", "250"),
            ("secret_token", "correct-horse"),
        ];
        let payload = read(form(&fields), 1 << 20).await.ok().unwrap();
        assert_eq!(payload.images, [file("first"), file("second")]);
        let Texts::Shared(questions) = payload.texts else { panic!() };
        assert_eq!(questions, ["what?", "who?", "why?"].map(|text| TextInput::from(text.to_owned())));
        let timeout_ms = Some(Milliseconds(250));
        let options = Options { details: true, stream: false, priority: RequestPriority::High, timeout_ms };
        assert_eq!(payload.options, options);
        assert_eq!(payload.secret_token.as_deref(), Some("correct-horse"));
        assert_eq!(payload.format, RequestFormat::Form { shared_questions: true });
    }

    #[tokio::test]
    async fn each_image_may_have_its_own_questions() {
        let fields = [("texts", r#"[["what?"], ["who?"]]"#), ("image", "a"), ("image", "b")];
        let payload = read(form(&fields), 1 << 20).await.ok().unwrap();
        let Texts::Each(lists) = payload.texts else { panic!() };
        assert_eq!(lists, [["what?"], ["who?"]].map(|list| list.map(|text| TextInput::from(text.to_owned()))));
    }

    #[tokio::test]
    async fn texts_to_compare_with_are_shared_or_of_each_image_and_nothing_is_generated() {
        let read = async |fields: &[(&str, &str)]| read_as(Endpoint::Match, form(fields), 1 << 20).await;
        let shared = read(&[("image", "a"), ("text", "a cat"), ("text", "a dog")]).await.ok().unwrap();
        assert_eq!((shared.task, shared.format), (Task::Match, RequestFormat::FormMatch));
        let Texts::Shared(texts) = shared.texts else { panic!() };
        assert_eq!(texts, ["a cat", "a dog"].map(|text| TextInput::from(text.to_owned())));
        let each = read(&[("image", "a"), ("texts", r#"[["a cat"]]"#)]).await.ok().unwrap();
        assert_eq!(each.format, RequestFormat::Form { shared_questions: false });
        for (field, content) in [("question", "a cat"), ("generation", "{}"), ("stream_tokens", "true")] {
            let refusal = read(&[("image", "a"), (field, content)]).await.err().unwrap();
            assert_eq!(refusal.reason(), ErrorReason::PayloadInvalid, "{field}");
        }
    }

    #[tokio::test]
    async fn a_field_at_fault_is_named() {
        for (fields, expected) in [
            (
                [("images", "a"), ("question", "q")],
                "the form is invalid: it has an unknown field `images`",
            ),
            (
                [("priority", "urgent"), ("image", "a")],
                "priority is invalid: unknown variant `urgent`",
            ),
            ([("timeout_ms", "0"), ("image", "a")], "timeout_ms is invalid"),
            ([("details", "true"), ("details", "true")], "details is invalid: it is given twice"),
            ([("texts", "[]"), ("question", "a")], "texts is invalid: it stands beside"),
            ([("questions", "what?"), ("image", "a")], "questions is no json"),
            ([("generation", "[]"), ("image", "a")], "generation is invalid: invalid type: sequence"),
            ([("text", "a"), ("image", "a")], "it has an unknown field `text`"),
        ] {
            let message = refused(&fields).await;
            assert!(message.contains(expected), "{message}");
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_early_or_is_too_long_is_refused_as_such() {
        let whole = form(&[("image", "a"), ("question", "what?")]);
        let cut = read(whole[..whole.len() - 9].to_owned(), 1 << 20).await.err().unwrap();
        assert_eq!(cut.reason(), ErrorReason::BodyUnreadable);
        let long = read(whole, 60).await.err().unwrap();
        assert_eq!(long.reason(), ErrorReason::MessageTooLarge);
    }
}
