//! The access token for private and gated models.

use std::fmt;

use reqwest::header::HeaderValue;

/// An access token. Debug output hides it, and requests send it to the hub's origin only.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Creates a token. Returns `None` if `text` contains characters that a header cannot contain.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// Returns the value of the `authorization` header.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_token() {
        let token = Token::new("hf_secret").unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
        assert!(Token::new("two\nlines").is_none());
    }
}
