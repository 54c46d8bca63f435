//! The key to models that are not for everyone.

use std::fmt;

use reqwest::header::HeaderValue;

/// An access token. It is never shown, and goes to the hub's own address only.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Nothing, if `text` holds what no token does.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// The value of an `authorization` header.
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
    fn a_token_is_never_shown() {
        let token = Token::new("hf_secret").unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
        assert!(Token::new("two\nlines").is_none());
    }
}
