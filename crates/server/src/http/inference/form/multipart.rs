//! Decoding of forms, field by field while they arrive.

use std::fmt;

use multer::{Field, Multipart};
use serde::{
    Deserialize,
    de::{IntoDeserializer as _, value},
};

use crate::{
    error::{ErrorReason, RequestError},
    grpc::codec::MAX_MESSAGES,
    http::{
        body::RequestBody,
        inference::{
            decoded_body::{CallOptions, DecodedBody, Endpoint, Milliseconds, TextLists, inline},
            form::form_body::FormBody,
            task_requests::{prompts, texts},
        },
        json::{object, read_json},
    },
    priority::RequestPriority,
    request::{field_path::RequestFormat, generation::GenerationOptions, item::ImageSource, task::Task},
};

/// The maximum length of the boundary between parts, in bytes (RFC 2046, section 5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;

/// The fields that a form may omit. Programs that show a form, such as Swagger UI, can send them
/// without a value.
const OPTIONAL_FIELDS: &[&str] = &[
    "question",
    "questions",
    "text",
    "texts",
    "secret_token",
    "details",
    "explain",
    "stream",
    "stream_tokens",
    "priority",
    "timeout_ms",
    "model",
    "generation",
];

/// The fields of a form that were decoded so far.
#[derive(Default)]
struct Fields {
    images: Vec<ImageSource>,
    shared_texts: Vec<String>,
    texts: Option<Vec<Vec<String>>>,
    secret_token: Option<String>,
    details: Option<bool>,
    stream: Option<bool>,
    priority: Option<RequestPriority>,
    timeout_ms: Option<Milliseconds>,
    model: Option<String>,
    generation: Option<GenerationOptions>,
    stream_tokens: Option<bool>,
    explain: Option<bool>,
}

/// The generation options as a JSON object.
#[derive(Deserialize)]
#[serde(transparent)]
struct Generation(#[serde(deserialize_with = "object")] GenerationOptions);

/// Decodes the form of a request to `endpoint`. `content_type` has the boundary of its parts.
///
/// # Errors
/// A [`RequestError`] of the body, or one that names the invalid field.
pub(crate) async fn read_form(
    endpoint: Endpoint,
    content_type: &str,
    body: RequestBody,
) -> Result<DecodedBody, RequestError> {
    let boundary = multer::parse_boundary(content_type).map_err(unreadable)?;
    if boundary.len() > MAX_BOUNDARY_BYTES {
        let bytes = boundary.len();
        let cause = format_args!("boundary too long: {bytes} bytes, {MAX_BOUNDARY_BYTES} bytes allowed");
        return Err(RequestError::new(ErrorReason::BodyUnreadable).cause(cause));
    }
    let (body, allowance) = FormBody::new(body);
    let mut form = Multipart::new(body, boundary);
    let mut fields = Fields::default();
    let mut parts = 0;
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        allowance.begin_content();
        fields.add(endpoint, field).await?;
        parts += 1;
        check_count(parts, "parts")?;
        check_count(fields.images.len() + fields.shared_texts.len(), "images and questions")?;
        allowance.begin_headers();
    }
    fields.into_body(endpoint)
}

impl Fields {
    async fn add(&mut self, endpoint: Endpoint, field: Field<'_>) -> Result<(), RequestError> {
        let name = field.name().unwrap_or_default().to_owned();
        let content = field.bytes().await.map_err(unreadable)?;
        match name.as_str() {
            "image" => self.images.push(inline(content)),
            optional if content.is_empty() && OPTIONAL_FIELDS.contains(&optional) => {}
            "text" if endpoint == Endpoint::Match => self.shared_texts.push(text(&name, &content)?),
            "question" if endpoint != Endpoint::Match => self.shared_texts.push(text(&name, &content)?),
            "questions" if endpoint != Endpoint::Match => {
                self.shared_texts.extend(read_json::<Vec<String>>(&content, &name)?);
            }
            "texts" => set(&mut self.texts, &name, read_json(&content, &name)?)?,
            "secret_token" => set(&mut self.secret_token, &name, text(&name, &content)?)?,
            "model" => set(&mut self.model, &name, text(&name, &content)?)?,
            "generation" => {
                let Generation(generation) = read_json(&content, &name)?;
                set(&mut self.generation, &name, generation)?;
            }
            "stream_tokens" => set(&mut self.stream_tokens, &name, read_json(&content, &name)?)?,
            "explain" => set(&mut self.explain, &name, read_json(&content, &name)?)?,
            "details" => set(&mut self.details, &name, read_json(&content, &name)?)?,
            "stream" => set(&mut self.stream, &name, read_json(&content, &name)?)?,
            "timeout_ms" => set(&mut self.timeout_ms, &name, read_json(&content, &name)?)?,
            "priority" => {
                let priority = text(&name, &content)?;
                let priority = RequestPriority::deserialize(priority.as_str().into_deserializer())
                    .map_err(|error: value::Error| invalid(&name, error))?;
                set(&mut self.priority, &name, priority)?;
            }
            _ => return Err(invalid("the form", format_args!("unknown field `{name}`"))),
        }
        Ok(())
    }

    fn into_body(self, endpoint: Endpoint) -> Result<DecodedBody, RequestError> {
        let Self { images, shared_texts, texts: lists, secret_token, timeout_ms, .. } = self;
        let format = match (endpoint, &lists) {
            (Endpoint::Match, None) => RequestFormat::FormMatch,
            (_, lists) => RequestFormat::Form { shared_questions: lists.is_none() },
        };
        let list = if endpoint == Endpoint::Caption { prompts } else { texts };
        let texts = match lists {
            None => TextLists::Shared(list(shared_texts)),
            Some(lists) if shared_texts.is_empty() => {
                TextLists::PerImage(lists.into_iter().map(list).collect())
            }
            Some(_) => return Err(invalid("texts", "it conflicts with texts that all images share")),
        };
        let options = CallOptions {
            details: self.details.unwrap_or_default(),
            stream: self.stream.unwrap_or_default(),
            priority: self.priority.unwrap_or_default(),
            timeout_ms,
        };
        let task = match (endpoint, self.generation, self.stream_tokens, self.explain) {
            (Endpoint::Ask, generation, None, explain) => Task::Answer {
                generation: generation.unwrap_or_default(),
                explain: explain.unwrap_or_default(),
            },
            (Endpoint::Caption, generation, stream_tokens, None) => Task::Caption {
                generation: generation.unwrap_or_default(),
                stream_tokens: stream_tokens.unwrap_or_default(),
            },
            (Endpoint::Match, None, None, None) => Task::Match,
            _ => return Err(invalid("the form", "it has options of another route")),
        };
        let model = self.model.unwrap_or_default();
        Ok(DecodedBody { secret_token, images, texts, task, model, options, format })
    }
}

/// Rejects a form with more than [`MAX_MESSAGES`] of its `parts`.
fn check_count(count: usize, parts: &str) -> Result<(), RequestError> {
    if count > MAX_MESSAGES {
        return Err(RequestError::new(ErrorReason::PayloadTooManyValues)
            .field("the form")
            .value(format_args!("{count} {parts}"))
            .limit(format!("{MAX_MESSAGES} {parts}")));
    }
    Ok(())
}

fn set<T>(field: &mut Option<T>, name: &str, value: T) -> Result<(), RequestError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(name, "duplicate field")),
    }
}

fn text(name: &str, content: &[u8]) -> Result<String, RequestError> {
    let text = str::from_utf8(content).map_err(|error| invalid(name, error))?;
    Ok(text.to_owned())
}

fn invalid(field: &str, cause: impl fmt::Display) -> RequestError {
    RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause)
}

/// Returns the error of the body, or else the error of the form.
fn unreadable(error: multer::Error) -> RequestError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<RequestError>() {
            Ok(error) => *error,
            Err(cause) => RequestError::new(ErrorReason::BodyUnreadable).cause(cause),
        },
        error => RequestError::new(ErrorReason::BodyUnreadable).cause(error),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures::{StreamExt as _, stream};
    use http::HeaderMap;

    use super::*;
    use crate::request::{item::TextInput, memory_budget::tests::caller_budget};

    const CONTENT_TYPE: &str = "multipart/form-data; boundary=b";

    fn form(fields: &[(&str, &str)]) -> String {
        let part = |(name, content): &(&str, &str)| {
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
        };
        fields.iter().map(part).collect::<String>() + "--b--\r\n"
    }

    async fn read(endpoint: Endpoint, body: String, max_bytes: usize) -> Result<DecodedBody, RequestError> {
        let chunks: Vec<_> = body.into_bytes().chunks(7).map(<[u8]>::to_vec).collect();
        // Each chunk comes separately, as from a network.
        let chunks = stream::iter(chunks).then(async |chunk| {
            tokio::task::yield_now().await;
            Ok::<_, multer::Error>(chunk)
        });
        let budget = caller_budget(1 << 20, max_bytes);
        let body = RequestBody::new(&HeaderMap::new(), Body::from_stream(chunks), budget)?;
        read_form(endpoint, CONTENT_TYPE, body).await
    }

    async fn read_fields(endpoint: Endpoint, fields: &[(&str, &str)]) -> Result<DecodedBody, RequestError> {
        read(endpoint, form(fields), 1 << 20).await
    }

    fn inputs<const N: usize>(list: [&str; N]) -> [TextInput; N] {
        list.map(|text| TextInput::from(text.to_owned()))
    }

    #[tokio::test]
    async fn files_and_shared_questions_are_decoded_in_order() {
        let fields = [
            ("image", "first"),
            ("question", "what?"),
            ("questions", r#"["who?", "why?"]"#),
            ("image", "second"),
            ("priority", "high"),
            ("details", "true"),
            ("timeout_ms", "250"),
            ("secret_token", "correct-horse"),
            ("explain", "true"),
        ];
        let body = read_fields(Endpoint::Ask, &fields).await.ok().unwrap();
        assert_eq!(body.images, [inline("first"), inline("second")]);
        assert!(body.task.explains());
        let TextLists::Shared(questions) = body.texts else { panic!() };
        assert_eq!(questions, inputs(["what?", "who?", "why?"]));
        let timeout_ms = Some(Milliseconds(250));
        let options =
            CallOptions { details: true, stream: false, priority: RequestPriority::High, timeout_ms };
        assert_eq!(body.options, options);
        assert_eq!(body.secret_token.as_deref(), Some("correct-horse"));
        assert_eq!(body.format, RequestFormat::Form { shared_questions: true });
    }

    #[tokio::test]
    async fn each_image_may_have_a_list_of_questions() {
        let fields = [("texts", r#"[["what?"], ["who?"]]"#), ("image", "a"), ("image", "b")];
        let body = read_fields(Endpoint::Ask, &fields).await.ok().unwrap();
        let TextLists::PerImage(lists) = body.texts else { panic!() };
        assert_eq!(lists, [["what?"], ["who?"]].map(inputs));
    }

    #[tokio::test]
    async fn match_form_has_texts_and_no_generation_options() {
        let read = async |fields: &[(&str, &str)]| read_fields(Endpoint::Match, fields).await;
        let shared = read(&[("image", "a"), ("text", "a cat"), ("text", "a dog")]).await.ok().unwrap();
        assert_eq!((shared.task, shared.format), (Task::Match, RequestFormat::FormMatch));
        let TextLists::Shared(texts) = shared.texts else { panic!() };
        assert_eq!(texts, inputs(["a cat", "a dog"]));
        let each = read(&[("image", "a"), ("texts", r#"[["a cat"]]"#)]).await.ok().unwrap();
        assert_eq!(each.format, RequestFormat::Form { shared_questions: false });
        for (field, content) in
            [("question", "a cat"), ("generation", "{}"), ("stream_tokens", "true"), ("explain", "true")]
        {
            let error = read(&[("image", "a"), (field, content)]).await.err().unwrap();
            assert_eq!(error.reason(), ErrorReason::PayloadInvalid, "{field}");
        }
    }

    #[tokio::test]
    async fn empty_optional_field_is_absent() {
        let empty = OPTIONAL_FIELDS.iter().map(|name| (*name, ""));
        let fields: Vec<_> = [("image", "a"), ("question", "what?")].into_iter().chain(empty).collect();
        let body = read_fields(Endpoint::Ask, &fields).await.ok().unwrap();
        let TextLists::Shared(questions) = body.texts else { panic!() };
        assert_eq!(questions, inputs(["what?"]));
        assert_eq!((body.secret_token, body.model.as_str()), (None, ""));
        assert_eq!((body.options, body.task), (CallOptions::default(), Task::default()));
        // A value may follow, and an empty image is an item that fails.
        let fields = [("image", ""), ("model", ""), ("model", "demo")];
        let body = read_fields(Endpoint::Ask, &fields).await.ok().unwrap();
        assert_eq!((body.images, body.model.as_str()), (vec![inline("")], "demo"));
        let error = read_fields(Endpoint::Ask, &[("images", "")]).await.err().unwrap();
        assert!(error.to_string().contains("unknown field `images`"));
    }

    #[tokio::test]
    async fn invalid_field_is_named() {
        for (fields, expected) in [
            ([("images", "a"), ("question", "q")], "the form is invalid: unknown field `images`"),
            ([("priority", "urgent"), ("image", "a")], "priority is invalid: unknown variant `urgent`"),
            ([("timeout_ms", "0"), ("image", "a")], "timeout_ms is invalid"),
            ([("details", "true"), ("details", "true")], "details is invalid: duplicate field"),
            ([("texts", "[]"), ("question", "a")], "texts is invalid: it conflicts with"),
            ([("questions", "what?"), ("image", "a")], "invalid json in questions"),
            ([("generation", "[]"), ("image", "a")], "generation is invalid: invalid type: sequence"),
            ([("text", "a"), ("image", "a")], "unknown field `text`"),
            ([("explain", "yes"), ("image", "a")], "invalid json in explain"),
        ] {
            let message = read_fields(Endpoint::Ask, &fields).await.err().unwrap().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[tokio::test]
    async fn truncated_or_too_long_body_is_rejected() {
        let whole = form(&[("image", "a"), ("question", "what?")]);
        let cut = read(Endpoint::Ask, whole[..whole.len() - 9].to_owned(), 1 << 20).await.err().unwrap();
        assert_eq!(cut.reason(), ErrorReason::BodyUnreadable);
        let long = read(Endpoint::Ask, whole, 60).await.err().unwrap();
        assert_eq!(long.reason(), ErrorReason::MessageTooLarge);
    }

    #[tokio::test]
    async fn part_without_end_of_headers_is_rejected() {
        let filler = "x".repeat(100_000);
        for start in ["", "--b\r\n", "--b\r\ncontent-disposition: form-data; name=\"a", "--b\r\na: b\r\nc: "]
        {
            let error = read(Endpoint::Ask, format!("{start}{filler}"), 1 << 20).await.err().unwrap();
            assert_eq!(error.reason(), ErrorReason::BodyUnreadable);
            assert!(error.to_string().ends_with("part headers too long: 16384 bytes allowed"), "{error}");
        }
        // The limit holds for each part, after contents of any length.
        let first = form(&[("image", filler.as_str())]).replace("--b--\r\n", "--b\r\na: ");
        let error = read(Endpoint::Ask, first + &filler, 1 << 20).await.err().unwrap();
        assert!(error.to_string().contains("part headers too long"), "{error}");
    }

    #[tokio::test]
    async fn headers_of_8_kib_are_accepted_in_every_part() {
        let long = format!("\r\nx-long: {}\r\n\r\n", "x".repeat(8 << 10));
        let body = form(&[("image", "a"), ("question", "what?"), ("image", "b")]).replace("\r\n\r\n", &long);
        let body = read(Endpoint::Ask, body, 1 << 20).await.ok().unwrap();
        assert_eq!(body.images, [inline("a"), inline("b")]);
    }

    #[tokio::test]
    async fn boundary_of_more_than_70_bytes_is_rejected() {
        let read = async |bytes: usize| {
            let budget = caller_budget(1 << 20, 1 << 20);
            let body = RequestBody::new(&HeaderMap::new(), Body::empty(), budget).unwrap();
            let content_type = format!("multipart/form-data; boundary={}", "b".repeat(bytes));
            read_form(Endpoint::Ask, &content_type, body).await.err().unwrap().to_string()
        };
        assert!(!read(70).await.contains("boundary too long"));
        assert!(read(71).await.ends_with("boundary too long: 71 bytes, 70 bytes allowed"));
    }
}
