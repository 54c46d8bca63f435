//! Where a part of a request stands in it, in the words of the protocol that brought it: errors name it so.

/// How a caller wrote a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFormat {
    /// `blip.v1.AskRequest`.
    Grpc,
    /// `blip.v1.CaptionRequest`.
    Prompts,
    /// `blip.v1.MatchRequest`.
    Texts,
    /// `blip.v1.EmbedRequest`: images, and texts without any.
    Vectors,
    /// The model card's JSON: images and lists of questions side by side.
    Card,
    /// The same for vectors: images, and texts without any.
    CardVectors,
    /// A format of HTML: image files, with one list of questions that all of them share or with a list for each.
    Files {
        /// Whether the questions are those of all images.
        shared_questions: bool,
    },
    /// A format of HTML: image files, and texts that all of them are compared with.
    FilesTexts,
}

impl RequestFormat {
    /// The path of all images.
    #[must_use]
    pub fn images(self) -> &'static str {
        match self {
            Self::Grpc | Self::Prompts | Self::Texts => "inputs",
            Self::Vectors => "images",
            Self::Card | Self::CardVectors => "inputs.images",
            Self::Files { .. } | Self::FilesTexts => "image",
        }
    }

    /// The path of all questions.
    #[must_use]
    pub fn questions(self) -> &'static str {
        match self {
            Self::Grpc => "inputs[].questions",
            Self::Prompts => "inputs[].prompts",
            Self::Texts => "inputs[].texts",
            Self::Vectors => "texts",
            Self::Card | Self::CardVectors => "inputs.texts",
            Self::Files { shared_questions: true } => "questions",
            Self::Files { shared_questions: false } => "texts",
            Self::FilesTexts => "text",
        }
    }
}

/// One image of a request with the questions about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPath {
    /// How the request is written.
    pub format: RequestFormat,
    /// Position among the images, from 0.
    pub index: u32,
}

impl FieldPath {
    /// The path of the image.
    #[must_use]
    pub fn image(self) -> String {
        self.image_part("")
    }

    /// The path of the image's bytes.
    #[must_use]
    pub fn image_data(self) -> String {
        self.image_part(match self.format {
            RequestFormat::Grpc | RequestFormat::Prompts | RequestFormat::Texts | RequestFormat::Vectors => {
                ".data"
            }
            RequestFormat::Card | RequestFormat::CardVectors => ".base64",
            RequestFormat::Files { .. } | RequestFormat::FilesTexts => "",
        })
    }

    /// The path of the image's URL.
    #[must_use]
    pub fn image_url(self) -> String {
        self.image_part(".url")
    }

    /// The path of the questions about the image.
    #[must_use]
    pub fn questions(self) -> String {
        let index = self.index;
        match self.format {
            RequestFormat::Grpc => format!("inputs[{index}].questions"),
            RequestFormat::Prompts => format!("inputs[{index}].prompts"),
            RequestFormat::Texts => format!("inputs[{index}].texts"),
            RequestFormat::Vectors => "texts".to_owned(),
            RequestFormat::Card => format!("inputs.texts[{index}]"),
            RequestFormat::CardVectors => "inputs.texts".to_owned(),
            RequestFormat::Files { shared_questions: true } => "questions".to_owned(),
            RequestFormat::Files { shared_questions: false } => format!("texts[{index}]"),
            RequestFormat::FilesTexts => "text".to_owned(),
        }
    }

    /// The path of one question's text.
    #[must_use]
    pub fn question(self, position: usize) -> String {
        let index = self.index;
        match self.format {
            RequestFormat::Grpc => format!("inputs[{index}].questions[{position}].text"),
            RequestFormat::Prompts => format!("inputs[{index}].prompts[{position}]"),
            RequestFormat::Texts => format!("inputs[{index}].texts[{position}]"),
            RequestFormat::Vectors => format!("texts[{position}]"),
            RequestFormat::Card => format!("inputs.texts[{index}][{position}]"),
            RequestFormat::CardVectors => format!("inputs.texts[{position}]"),
            RequestFormat::Files { shared_questions: true } => format!("questions[{position}]"),
            RequestFormat::Files { shared_questions: false } => format!("texts[{index}][{position}]"),
            RequestFormat::FilesTexts => format!("text[{position}]"),
        }
    }

    /// The path of one question's candidates.
    #[must_use]
    pub fn candidates(self, position: usize) -> String {
        self.question_part(position, "candidates")
    }

    /// The path of the name of one question's list of candidates.
    #[must_use]
    pub fn candidate_list(self, position: usize) -> String {
        self.question_part(position, "candidate_list")
    }

    fn question_part(self, position: usize, part: &str) -> String {
        match self.format {
            RequestFormat::Grpc => format!("inputs[{}].questions[{position}].{part}", self.index),
            _ => format!("{}.{part}", self.question(position)),
        }
    }

    fn image_part(self, part: &str) -> String {
        let index = self.index;
        match self.format {
            RequestFormat::Grpc | RequestFormat::Prompts | RequestFormat::Texts => {
                format!("inputs[{index}].image{part}")
            }
            RequestFormat::Vectors => format!("images[{index}]{part}"),
            RequestFormat::Card | RequestFormat::CardVectors => format!("inputs.images[{index}]{part}"),
            RequestFormat::Files { .. } | RequestFormat::FilesTexts => format!("image[{index}]{part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_request_are_named_as_its_caller_wrote_them() {
        let named = |format| {
            let path = FieldPath { format, index: 2 };
            [path.image_data(), path.image_url(), path.questions(), path.question(1)]
        };
        assert_eq!(
            named(RequestFormat::Grpc),
            [
                "inputs[2].image.data",
                "inputs[2].image.url",
                "inputs[2].questions",
                "inputs[2].questions[1].text"
            ]
        );
        assert_eq!(
            named(RequestFormat::Card),
            ["inputs.images[2].base64", "inputs.images[2].url", "inputs.texts[2]", "inputs.texts[2][1]"]
        );
        let [image, _, shared, question] = named(RequestFormat::Files { shared_questions: true });
        assert_eq!([&image, &shared, &question], ["image[2]", "questions", "questions[1]"]);
        let [.., each, question] = named(RequestFormat::Files { shared_questions: false });
        assert_eq!([&each, &question], ["texts[2]", "texts[2][1]"]);
        let [image, _, shared, text] = named(RequestFormat::FilesTexts);
        assert_eq!([&image, &shared, &text], ["image[2]", "text", "text[1]"]);
    }
}
