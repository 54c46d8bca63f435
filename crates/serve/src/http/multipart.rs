//! A request as a form of HTML (`multipart/form-data`): image files as they are, read piece by piece.

use multer::{Field, Multipart};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IntoDeserializer as _, value},
};

use super::{
    body::Upload,
    card::read_json,
    payload::{Class, Kind, Milliseconds, Options, Payload, Questions, file, plain},
    tasks::prompts,
    texts::{CardGeneration, object},
};
use crate::{
    codec::MAX_MESSAGES,
    errors::{Reason, Refusal},
    place::Form,
    proto::image::Source,
    wanted::Wanted,
};

/// A form as far as it was read.
#[derive(Default)]
struct Fields {
    images: Vec<Source>,
    shared: Vec<String>,
    texts: Option<Vec<Vec<String>>>,
    secret_token: Option<String>,
    details: Option<bool>,
    stream: Option<bool>,
    priority: Option<Class>,
    timeout_ms: Option<Milliseconds>,
    model: Option<String>,
    generation: Option<CardGeneration>,
    stream_tokens: Option<bool>,
}

/// Options as a field of their own: an object, as in JSON.
#[derive(Deserialize)]
#[serde(transparent)]
struct Generation(#[serde(deserialize_with = "object")] CardGeneration);

/// Reads a request of this kind with this content type.
///
/// # Errors
/// A [`Refusal`] of the body, or one that names the field at fault.
pub(super) async fn read_form(kind: Kind, content_type: &str, upload: Upload) -> Result<Payload, Refusal> {
    let boundary = multer::parse_boundary(content_type).map_err(unreadable)?;
    let mut form = Multipart::new(upload, boundary);
    let mut fields = Fields::default();
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        fields.add(kind, field).await?;
        if fields.images.len() + fields.shared.len() > MAX_MESSAGES {
            return Err(Refusal::new(Reason::PayloadTooManyValues)
                .field("the form")
                .value("more images and questions")
                .limit(format!("{MAX_MESSAGES} images and questions")));
        }
    }
    fields.payload(kind)
}

impl Fields {
    async fn add(&mut self, kind: Kind, field: Field<'_>) -> Result<(), Refusal> {
        let name = field.name().unwrap_or_default().to_owned();
        let content = field.bytes().await.map_err(unreadable)?;
        match name.as_str() {
            "image" => self.images.push(file(content)),
            "text" if kind == Kind::Match => self.shared.push(text(&name, &content)?),
            "question" if kind != Kind::Match => self.shared.push(text(&name, &content)?),
            "questions" if kind != Kind::Match => {
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
                let class = Class::deserialize(class.as_str().into_deserializer())
                    .map_err(|error: value::Error| invalid(&name, error))?;
                set(&mut self.priority, &name, class)?;
            }
            _ => return Err(invalid("the form", format_args!("it has an unknown field `{name}`"))),
        }
        Ok(())
    }

    fn payload(self, kind: Kind) -> Result<Payload, Refusal> {
        let Self { images, shared, texts, secret_token, details, stream, priority, timeout_ms, .. } = self;
        let form = match (kind, &texts) {
            (Kind::Match, None) => Form::FilesTexts,
            (_, texts) => Form::Files { shared_questions: texts.is_none() },
        };
        let list = |texts: Vec<String>| match kind {
            Kind::Caption => prompts(texts),
            _ => texts.into_iter().map(plain).collect(),
        };
        let questions = match texts {
            None => Questions::Shared(list(shared)),
            Some(lists) if shared.is_empty() => Questions::Each(lists.into_iter().map(list).collect()),
            Some(_) => return Err(invalid("texts", "it stands beside what all images share")),
        };
        let options = Options {
            details: details.unwrap_or_default(),
            stream: stream.unwrap_or_default(),
            priority: priority.unwrap_or_default(),
            timeout_ms,
        };
        let wanted = match (kind, self.generation.map(Into::into), self.stream_tokens) {
            (Kind::Ask, generation, None) => Wanted::Answers(generation.unwrap_or_default()),
            (Kind::Caption, generation, pieces) => Wanted::Captions {
                generation: generation.unwrap_or_default(),
                pieces: pieces.unwrap_or_default(),
            },
            (Kind::Match, None, None) => Wanted::Matches,
            _ => return Err(invalid("the form", "it has options that are not those of this path")),
        };
        let model = self.model.unwrap_or_default();
        Ok(Payload { secret_token, images, questions, wanted, model, options, form })
    }
}

fn set<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(name, "it is given twice")),
    }
}

fn text(name: &str, content: &[u8]) -> Result<String, Refusal> {
    let text = str::from_utf8(content).map_err(|error| invalid(name, error))?;
    Ok(text.to_owned())
}

fn json<T: DeserializeOwned>(name: &str, content: &[u8]) -> Result<T, Refusal> {
    read_json(content, name)
}

fn invalid(field: &str, cause: impl ToString) -> Refusal {
    Refusal::new(Reason::PayloadInvalid).field(field).cause(cause)
}

/// What the body itself was refused for, or what is wrong with the form.
fn unreadable(error: multer::Error) -> Refusal {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<Refusal>() {
            Ok(refusal) => *refusal,
            Err(cause) => Refusal::new(Reason::BodyUnreadable).cause(cause),
        },
        error => Refusal::new(Reason::BodyUnreadable).cause(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use futures::stream;
    use http::HeaderMap;

    use super::*;
    use crate::upload::Room;

    const CONTENT_TYPE: &str = "multipart/form-data; boundary=b";

    fn form(fields: &[(&str, &str)]) -> String {
        let part = |(name, content): &(&str, &str)| {
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
        };
        fields.iter().map(part).collect::<String>() + "--b--\r\n"
    }

    async fn read(body: String, max_bytes: usize) -> Result<Payload, Refusal> {
        read_as(Kind::Ask, body, max_bytes).await
    }

    async fn read_as(kind: Kind, body: String, max_bytes: usize) -> Result<Payload, Refusal> {
        let pieces: Vec<_> =
            body.into_bytes().chunks(7).map(|piece| Ok::<_, multer::Error>(piece.to_vec())).collect();
        let room = Room::new(1 << 20, max_bytes, Duration::from_secs(20));
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
        let Questions::Shared(questions) = payload.questions else { panic!() };
        assert_eq!(questions, ["what?", "who?", "why?"].map(|text| plain(text.to_owned())));
        let timeout_ms = Some(Milliseconds(250));
        let options = Options { details: true, stream: false, priority: Class::High, timeout_ms };
        assert_eq!(payload.options, options);
        assert_eq!(payload.secret_token.as_deref(), Some("correct-horse"));
        assert_eq!(payload.form, Form::Files { shared_questions: true });
    }

    #[tokio::test]
    async fn each_image_may_have_its_own_questions() {
        let fields = [("texts", r#"[["what?"], ["who?"]]"#), ("image", "a"), ("image", "b")];
        let payload = read(form(&fields), 1 << 20).await.ok().unwrap();
        let Questions::Each(lists) = payload.questions else { panic!() };
        assert_eq!(lists, [["what?"], ["who?"]].map(|list| list.map(|text| plain(text.to_owned()))));
    }

    #[tokio::test]
    async fn texts_to_compare_with_are_shared_or_of_each_image_and_nothing_is_generated() {
        let read = async |fields: &[(&str, &str)]| read_as(Kind::Match, form(fields), 1 << 20).await;
        let shared = read(&[("image", "a"), ("text", "a cat"), ("text", "a dog")]).await.ok().unwrap();
        assert_eq!((shared.wanted, shared.form), (Wanted::Matches, Form::FilesTexts));
        let Questions::Shared(texts) = shared.questions else { panic!() };
        assert_eq!(texts, ["a cat", "a dog"].map(|text| plain(text.to_owned())));
        let each = read(&[("image", "a"), ("texts", r#"[["a cat"]]"#)]).await.ok().unwrap();
        assert_eq!(each.form, Form::Files { shared_questions: false });
        for (field, content) in [("question", "a cat"), ("generation", "{}"), ("stream_tokens", "true")] {
            let refusal = read(&[("image", "a"), (field, content)]).await.err().unwrap();
            assert_eq!(refusal.reason(), Reason::PayloadInvalid, "{field}");
        }
    }

    #[tokio::test]
    async fn a_field_at_fault_is_named() {
        for (fields, expected) in [
            (
                [("images", "a"), ("question", "q")],
                "the form is not as expected: it has an unknown field `images`",
            ),
            (
                [("priority", "urgent"), ("image", "a")],
                "priority is not as expected: unknown variant `urgent`",
            ),
            ([("timeout_ms", "0"), ("image", "a")], "timeout_ms is not as expected"),
            ([("details", "true"), ("details", "true")], "details is not as expected: it is given twice"),
            ([("texts", "[]"), ("question", "a")], "texts is not as expected: it stands beside"),
            ([("questions", "what?"), ("image", "a")], "questions is no json"),
            ([("generation", "[]"), ("image", "a")], "generation is not as expected: invalid type: sequence"),
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
        assert_eq!(cut.reason(), Reason::BodyUnreadable);
        let long = read(whole, 60).await.err().unwrap();
        assert_eq!(long.reason(), Reason::MessageTooLarge);
    }
}
