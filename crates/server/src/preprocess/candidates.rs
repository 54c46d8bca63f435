//! Tokenized candidate answers, from a question or from a candidate list of the server.

use std::{collections::HashMap, sync::Arc};

use blip::{TokenizeError, Tokenizer};

/// Tokenized candidate answers. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// The texts.
    pub texts: Arc<[String]>,
    /// The token ids of each text, without special tokens.
    pub ids: Arc<[Vec<i64>]>,
    /// The digest of the token ids.
    pub digest: [u8; 32],
}

/// Candidate lists by name.
pub type CandidateLists = HashMap<String, Candidates>;

/// An invalid candidate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// The text has no tokens.
    #[error("text without tokens")]
    Empty,
    /// The tokenizer rejects the text.
    #[error(transparent)]
    Unreadable(#[from] TokenizeError),
}

impl Candidates {
    /// Tokenizes `texts`.
    ///
    /// # Errors
    /// The position and the error of the first invalid candidate.
    pub fn new(texts: Vec<String>, tokenizer: &Tokenizer) -> Result<Self, (usize, CandidateError)> {
        let encode = |(position, text): (usize, &String)| {
            let ids = tokenizer.encode_bare(text).map_err(|error| (position, error.into()))?;
            if ids.is_empty() { Err((position, CandidateError::Empty)) } else { Ok(ids) }
        };
        let ids: Arc<[Vec<i64>]> = texts.iter().enumerate().map(encode).collect::<Result<_, _>>()?;
        // Token ids are not negative, so -1 separates candidates unambiguously.
        let bytes: Vec<u8> =
            ids.iter().flat_map(|ids| ids.iter().chain([&-1])).flat_map(|id| id.to_le_bytes()).collect();
        Ok(Self { texts: texts.into(), ids, digest: images::ImageDigest::of(&bytes).0 })
    }

    /// Returns about how many tokens the decoder processes for `shortlist` of the candidates,
    /// stop tokens included.
    #[must_use]
    pub fn tokens(&self, shortlist: usize) -> usize {
        let all: usize = self.ids.iter().map(|ids| ids.len() + 1).sum();
        let count = self.ids.len().max(1);
        all * shortlist.min(count) / count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(texts: &[&str]) -> Result<Candidates, (usize, CandidateError)> {
        let checkpoint =
            blip::Checkpoint::open(&blip::ModelFiles::Folder("../../models/demo".into())).unwrap();
        Candidates::new(texts.iter().map(ToString::to_string).collect(), checkpoint.tokenizer())
    }

    #[test]
    fn candidates_have_a_digest_and_no_special_tokens() {
        let [one, other] = [&["yes", "no"], &["no", "yes"]].map(|texts| candidates(texts).unwrap());
        assert_eq!(one.ids.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        assert_ne!(one.digest, other.digest);
        assert_eq!((one.tokens(128), one.tokens(1)), (4, 2));
    }

    #[test]
    fn candidate_without_tokens_is_reported_by_position() {
        assert_eq!(candidates(&["yes", " \t"]).unwrap_err(), (1, CandidateError::Empty));
    }
}
