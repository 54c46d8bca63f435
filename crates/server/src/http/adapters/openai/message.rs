//! A message of a chat: a text, or parts that are texts and images.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::adapters::openai::error::invalid,
    request::item::{ImageSource, TextInput},
};

/// A message.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Message {
    /// The author. Only `user` is accepted.
    #[schema(value_type = Role)]
    pub(crate) role: String,
    /// The question and its images.
    #[schema(value_type = ContentSchema)]
    content: Option<Content>,
}

/// The author of a message.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the field in the OpenAPI document")]
pub(crate) enum Role {
    /// The user.
    User,
}

/// The content of a message.
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message. The field `type` names the field that has its content.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    image_url: Option<ImageUrl>,
}

/// The URL of an image, alone or in an object.
struct ImageUrl(String);

/// The two forms of a content.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the content in the OpenAPI document; Content decodes it")]
pub(crate) enum ContentSchema {
    /// A text.
    Text(String),
    /// Texts and images.
    Parts(Vec<PartSchema>),
}

/// A part of a message.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the part in the OpenAPI document; Part decodes it")]
pub(crate) enum PartSchema {
    /// A question, or the beginning of a caption.
    Text {
        /// The text.
        text: String,
    },
    /// An image.
    ImageUrl {
        /// The URL of the image.
        image_url: ImageUrlSchema,
    },
}

/// The URL of an image.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the image in the OpenAPI document; ImageUrl decodes it")]
pub(crate) struct ImageUrlSchema {
    /// An `http`, `https` or `data` URL.
    url: String,
}

/// The images and texts of a message, with the positions of their parts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Question {
    /// The images.
    pub(crate) images: Vec<ImageSource>,
    /// The texts that are not blank.
    pub(crate) texts: Vec<TextInput>,
    /// The part of each image and of each text. Empty if the content is a text.
    positions: [Vec<usize>; 2],
}

impl Question {
    /// Returns the question in `messages`, which is the only message.
    ///
    /// # Errors
    /// A [`RequestError`] that states what a BLIP model cannot do.
    pub(crate) fn of(messages: Vec<Message>) -> Result<Self, RequestError> {
        for (index, Message { role, .. }) in messages.iter().enumerate() {
            let cause = match role.as_str() {
                "user" => continue,
                "system" | "developer" => "a BLIP model has no system prompt",
                "assistant" | "tool" | "function" => "a BLIP model has no conversation of several turns",
                _ => "expected user",
            };
            return Err(invalid(&format!("messages[{index}].role"), &format!("{role}: {cause}")));
        }
        let count = messages.len();
        let message = messages.into_iter().next().filter(|_| count == 1).ok_or_else(|| {
            let cause =
                format!("{count} messages, 1 allowed: a BLIP model has no conversation of several turns");
            invalid("messages", &cause)
        })?;
        let mut question = Self::default();
        match message.content {
            None => {}
            Some(Content::Text(text)) => question.add_text(text, None),
            Some(Content::Parts(parts)) => {
                for (index, part) in parts.into_iter().enumerate() {
                    question.add(index, part)?;
                }
            }
        }
        if question.images.is_empty() {
            let cause = "no part of type image_url: a BLIP model needs an image";
            return Err(invalid("messages[0].content", cause));
        }
        Ok(question)
    }

    fn add(&mut self, index: usize, part: Part) -> Result<(), RequestError> {
        let field = format!("messages[0].content[{index}]");
        let missing = |name| invalid(&field, &format!("{name} is missing"));
        match part.kind.as_str() {
            "text" => self.add_text(part.text.ok_or_else(|| missing("text"))?, Some(index)),
            "image_url" => {
                let ImageUrl(url) = part.image_url.ok_or_else(|| missing("image_url"))?;
                let [images, _] = &mut self.positions;
                images.push(index);
                self.images.push(ImageSource::Remote(url));
            }
            other => {
                let cause = format!("{other}, expected text or image_url");
                return Err(invalid(&format!("{field}.type"), &cause));
            }
        }
        Ok(())
    }

    fn add_text(&mut self, text: String, position: Option<usize>) {
        if !text.trim().is_empty() {
            let [_, texts] = &mut self.positions;
            texts.extend(position);
            self.texts.push(text.into());
        }
    }

    /// Returns the path of an image in the request.
    pub(crate) fn image_path(&self, image: usize) -> String {
        let [images, _] = &self.positions;
        path(images.get(image), ".image_url.url")
    }

    /// Returns the path of a text in the request.
    pub(crate) fn text_path(&self, text: usize) -> String {
        let [_, texts] = &self.positions;
        path(texts.get(text), ".text")
    }
}

fn path(position: Option<&usize>, field: &str) -> String {
    match position {
        Some(position) => format!("messages[0].content[{position}]{field}"),
        None => "messages[0].content".to_owned(),
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;

        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list of parts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Content, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }

        deserializer.deserialize_any(ContentVisitor)
    }
}

impl<'de> Deserialize<'de> for ImageUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ImageUrlVisitor;

        /// The level of detail has no effect: every image is scaled to the size of the model.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            url: String,
            #[serde(rename = "detail")]
            _detail: Option<IgnoredAny>,
        }

        impl<'de> Visitor<'de> for ImageUrlVisitor {
            type Value = ImageUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or an object with url")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<ImageUrl, E> {
                Ok(ImageUrl(url.to_owned()))
            }

            fn visit_string<E: Error>(self, url: String) -> Result<ImageUrl, E> {
                Ok(ImageUrl(url))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageUrl, A::Error> {
                Ok(ImageUrl(Fields::deserialize(MapAccessDeserializer::new(map))?.url))
            }
        }

        deserializer.deserialize_any(ImageUrlVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn question(messages: Value) -> Result<Question, String> {
        let messages = serde_json::from_value(messages).map_err(|error| error.to_string())?;
        Question::of(messages).map_err(|error| error.to_string())
    }

    fn user(content: Value) -> Value {
        json!([{"role": "user", "content": content}])
    }

    #[test]
    fn images_and_texts_keep_the_positions_of_their_parts() {
        let content = json!([
            {"type": "text", "text": " "},
            {"type": "image_url", "image_url": {"url": "https://a.example", "detail": "low"}},
            {"type": "text", "text": "what?", "cache_control": {}},
            {"type": "image_url", "image_url": "data:,"},
        ]);
        let question = question(user(content)).unwrap();
        let url = |url: &str| ImageSource::Remote(url.to_owned());
        assert_eq!(question.images, [url("https://a.example"), url("data:,")]);
        assert_eq!(question.texts, [TextInput::from("what?".to_owned())]);
        assert_eq!(question.image_path(1), "messages[0].content[3].image_url.url");
        assert_eq!(question.text_path(0), "messages[0].content[2].text");
    }

    #[test]
    fn what_a_model_cannot_do_is_an_error_that_says_so() {
        let image = json!({"type": "image_url", "image_url": "data:,"});
        let messages = |roles: &[&str]| {
            let message = |role: &&str| json!({"role": role, "content": [image]});
            Value::from(roles.iter().map(message).collect::<Vec<_>>())
        };
        for (messages, expected) in [
            (
                messages(&["system", "user"]),
                "messages[0].role is invalid: system: a BLIP model has no system",
            ),
            (
                messages(&["user", "assistant", "user"]),
                "messages[1].role is invalid: assistant: a BLIP model has no",
            ),
            (messages(&["user", "user"]), "messages is invalid: 2 messages, 1 allowed"),
            (messages(&[]), "messages is invalid: 0 messages, 1 allowed"),
            (messages(&["pirate"]), "messages[0].role is invalid: pirate: expected user"),
            (user(json!("what?")), "messages[0].content is invalid: no part of type image_url"),
            (
                user(json!([{"type": "input_audio"}])),
                "messages[0].content[0].type is invalid: input_audio, expected",
            ),
            (user(json!([{"type": "text"}])), "messages[0].content[0] is invalid: text is missing"),
            (user(json!([{"type": "image_url"}])), "messages[0].content[0] is invalid: image_url is missing"),
            (user(json!(5)), "expected a string, or a list of parts"),
        ] {
            let message = question(messages).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
