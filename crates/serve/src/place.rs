//! Where a part of a request stands in it, in the words of the protocol that brought it: errors name it so.

/// How a caller wrote a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `blip.v1.AskRequest`.
    Grpc,
    /// The model card's JSON: images and lists of questions side by side.
    Card,
}

impl Form {
    /// The path of all images.
    #[must_use]
    pub fn images(self) -> &'static str {
        match self {
            Self::Grpc => "inputs",
            Self::Card => "inputs.images",
        }
    }

    /// The path of all questions.
    #[must_use]
    pub fn questions(self) -> &'static str {
        match self {
            Self::Grpc => "inputs[].questions",
            Self::Card => "inputs.texts",
        }
    }
}

/// One image of a request with the questions about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How the request is written.
    pub form: Form,
    /// Position among the images, from 0.
    pub index: u32,
}

impl Place {
    /// The path of the image.
    #[must_use]
    pub fn image(self) -> String {
        self.image_part("")
    }

    /// The path of the image's bytes.
    #[must_use]
    pub fn image_data(self) -> String {
        self.image_part(match self.form {
            Form::Grpc => ".data",
            Form::Card => ".base64",
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
        match self.form {
            Form::Grpc => format!("inputs[{index}].questions"),
            Form::Card => format!("inputs.texts[{index}]"),
        }
    }

    /// The path of one question's text.
    #[must_use]
    pub fn question(self, position: usize) -> String {
        let index = self.index;
        match self.form {
            Form::Grpc => format!("inputs[{index}].questions[{position}].text"),
            Form::Card => format!("inputs.texts[{index}][{position}]"),
        }
    }

    fn image_part(self, part: &str) -> String {
        let index = self.index;
        match self.form {
            Form::Grpc => format!("inputs[{index}].image{part}"),
            Form::Card => format!("inputs.images[{index}]{part}"),
        }
    }
}
