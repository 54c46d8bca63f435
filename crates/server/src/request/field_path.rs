//! Paths of fields in a request, by the field names of the protocol, for errors.

/// The protocol and the method whose field names are used in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFormat {
    /// `blip.v1.AskRequest`.
    GrpcAsk,
    /// `blip.v1.CaptionRequest`.
    GrpcCaption,
    /// `blip.v1.MatchRequest`.
    GrpcMatch,
    /// `blip.v1.EmbedRequest`: images, and texts without an image.
    GrpcEmbed,
    /// JSON: images, and a list of texts for each image.
    Json,
    /// The JSON of `/v1/embed`: images, and texts without an image.
    JsonEmbed,
    /// A form with image files and questions or prompts.
    Form {
        /// Whether all images share the questions. Otherwise, each image has a list.
        shared_questions: bool,
    },
    /// A form with image files and texts that all images are compared with.
    FormMatch,
    /// The format of another API, by the paths of its fields. `[i]` in a path is the position of
    /// the image, and `[t]` that of the text about it.
    Named {
        /// The path of an image.
        image: &'static str,
        /// The path of a text.
        text: &'static str,
    },
}

impl RequestFormat {
    /// Returns the path of all images.
    #[must_use]
    pub fn images(self) -> &'static str {
        match self {
            Self::GrpcAsk | Self::GrpcCaption | Self::GrpcMatch => "inputs",
            Self::GrpcEmbed => "images",
            Self::Json | Self::JsonEmbed => "inputs.images",
            Self::Form { .. } | Self::FormMatch => "image",
            Self::Named { image, .. } => whole(image),
        }
    }

    /// Returns the path of all texts.
    #[must_use]
    pub fn questions(self) -> &'static str {
        match self {
            Self::GrpcAsk => "inputs[].questions",
            Self::GrpcCaption => "inputs[].prompts",
            Self::GrpcMatch => "inputs[].texts",
            Self::GrpcEmbed => "texts",
            Self::Json | Self::JsonEmbed => "inputs.texts",
            Self::Form { shared_questions: true } => "questions",
            Self::Form { shared_questions: false } => "texts",
            Self::FormMatch => "text",
            Self::Named { text, .. } => whole(text),
        }
    }
}

/// Returns the part of a path before its positions.
fn whole(path: &'static str) -> &'static str {
    path.split("[i]").next().unwrap_or(path).split("[t]").next().unwrap_or(path)
}

/// The path of one image of a request and of the texts about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPath {
    /// The format of the request.
    pub format: RequestFormat,
    /// The position of the image, from 0.
    pub index: u32,
}

impl FieldPath {
    /// Returns the path of the image.
    #[must_use]
    pub fn image(self) -> String {
        self.image_part("")
    }

    /// Returns the path of the bytes of the image.
    #[must_use]
    pub fn image_data(self) -> String {
        self.image_part(match self.format {
            RequestFormat::GrpcAsk
            | RequestFormat::GrpcCaption
            | RequestFormat::GrpcMatch
            | RequestFormat::GrpcEmbed => ".data",
            RequestFormat::Json | RequestFormat::JsonEmbed => ".base64",
            RequestFormat::Form { .. } | RequestFormat::FormMatch | RequestFormat::Named { .. } => "",
        })
    }

    /// Returns the path of the URL of the image.
    #[must_use]
    pub fn image_url(self) -> String {
        self.image_part(".url")
    }

    /// Returns the path of the texts about the image.
    #[must_use]
    pub fn questions(self) -> String {
        let index = self.index;
        match self.format {
            RequestFormat::GrpcAsk => format!("inputs[{index}].questions"),
            RequestFormat::GrpcCaption => format!("inputs[{index}].prompts"),
            RequestFormat::GrpcMatch => format!("inputs[{index}].texts"),
            RequestFormat::GrpcEmbed => "texts".to_owned(),
            RequestFormat::Json => format!("inputs.texts[{index}]"),
            RequestFormat::JsonEmbed => "inputs.texts".to_owned(),
            RequestFormat::Form { shared_questions: true } => "questions".to_owned(),
            RequestFormat::Form { shared_questions: false } => format!("texts[{index}]"),
            RequestFormat::FormMatch => "text".to_owned(),
            RequestFormat::Named { text, .. } => whole(text).to_owned(),
        }
    }

    /// Returns the path of one text.
    #[must_use]
    pub fn question(self, position: usize) -> String {
        let index = self.index;
        match self.format {
            RequestFormat::GrpcAsk => format!("inputs[{index}].questions[{position}].text"),
            RequestFormat::GrpcCaption => format!("inputs[{index}].prompts[{position}]"),
            RequestFormat::GrpcMatch => format!("inputs[{index}].texts[{position}]"),
            RequestFormat::GrpcEmbed => format!("texts[{position}]"),
            RequestFormat::Json => format!("inputs.texts[{index}][{position}]"),
            RequestFormat::JsonEmbed => format!("inputs.texts[{position}]"),
            RequestFormat::Form { shared_questions: true } => format!("questions[{position}]"),
            RequestFormat::Form { shared_questions: false } => format!("texts[{index}][{position}]"),
            RequestFormat::FormMatch => format!("text[{position}]"),
            RequestFormat::Named { text, .. } => self.positions_in(text, position),
        }
    }

    /// Returns the path of the candidates of one question.
    #[must_use]
    pub fn candidates(self, position: usize) -> String {
        self.question_part(position, "candidates")
    }

    /// Returns the path of the name of the candidate list of one question.
    #[must_use]
    pub fn candidate_list(self, position: usize) -> String {
        self.question_part(position, "candidate_list")
    }

    fn question_part(self, position: usize, part: &str) -> String {
        match self.format {
            RequestFormat::GrpcAsk => format!("inputs[{}].questions[{position}].{part}", self.index),
            // The candidates are beside the text.
            RequestFormat::Named { text, .. } => {
                let path = self.positions_in(text, position);
                let parent = path.rsplit_once('.').map(|(parent, _)| format!("{parent}."));
                parent.unwrap_or_default() + part
            }
            _ => format!("{}.{part}", self.question(position)),
        }
    }

    fn positions_in(self, path: &str, position: usize) -> String {
        path.replace("[i]", &format!("[{}]", self.index)).replace("[t]", &format!("[{position}]"))
    }

    fn image_part(self, part: &str) -> String {
        let index = self.index;
        match self.format {
            RequestFormat::GrpcAsk | RequestFormat::GrpcCaption | RequestFormat::GrpcMatch => {
                format!("inputs[{index}].image{part}")
            }
            RequestFormat::GrpcEmbed => format!("images[{index}]{part}"),
            RequestFormat::Json | RequestFormat::JsonEmbed => format!("inputs.images[{index}]{part}"),
            RequestFormat::Form { .. } | RequestFormat::FormMatch => format!("image[{index}]{part}"),
            RequestFormat::Named { image, .. } => self.positions_in(image, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_field_names_of_the_format() {
        let named = |format| {
            let path = FieldPath { format, index: 2 };
            [path.image_data(), path.image_url(), path.questions(), path.question(1)]
        };
        assert_eq!(
            named(RequestFormat::GrpcAsk),
            [
                "inputs[2].image.data",
                "inputs[2].image.url",
                "inputs[2].questions",
                "inputs[2].questions[1].text"
            ]
        );
        assert_eq!(
            named(RequestFormat::Json),
            ["inputs.images[2].base64", "inputs.images[2].url", "inputs.texts[2]", "inputs.texts[2][1]"]
        );
        let [image, _, shared, question] = named(RequestFormat::Form { shared_questions: true });
        assert_eq!([&image, &shared, &question], ["image[2]", "questions", "questions[1]"]);
        let [.., each, question] = named(RequestFormat::Form { shared_questions: false });
        assert_eq!([&each, &question], ["texts[2]", "texts[2][1]"]);
        let [image, _, shared, text] = named(RequestFormat::FormMatch);
        assert_eq!([&image, &shared, &text], ["image[2]", "text", "text[1]"]);
        let format = RequestFormat::Named { image: "inputs[i].image", text: "inputs[i].labels[t]" };
        let paths = ["inputs[2].image", "inputs[2].image", "inputs", "inputs[2].labels[1]"];
        assert_eq!((named(format), format.images()), (paths.map(str::to_owned), "inputs"));
        assert_eq!(FieldPath { format, index: 2 }.candidates(1), "inputs[2].candidates");
    }
}
