//! A rule of the tokenizer.

/// What becomes of the text of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Stays as it is.
    Text,
    /// Becomes a token with a no-break space for each space, and named round brackets.
    Joined,
    /// Becomes a token with straight apostrophes, and characters in place of entities.
    Plain,
    /// Becomes a token of straight quotes and grave accents.
    Quotes,
    /// Becomes this token.
    Fixed(&'static str),
    /// Becomes no token.
    Removed,
}

/// A regular expression and the form of its matches.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The text of the token.
    pub(crate) core: String,
    /// What must follow the token. It counts for the length of the match.
    pub(crate) tail: Option<String>,
    pub(crate) form: Form,
}

impl Rule {
    pub(crate) fn new(core: impl Into<String>) -> Self {
        Self { core: core.into(), tail: None, form: Form::Text }
    }

    pub(crate) fn before(self, tail: impl Into<String>) -> Self {
        Self { tail: Some(tail.into()), ..self }
    }

    pub(crate) fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Returns the expression of the token and what follows it.
    pub(crate) fn pattern(&self) -> String {
        format!("(?:{})(?:{})", self.core, self.tail.as_deref().unwrap_or_default())
    }
}
