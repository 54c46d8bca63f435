//! Answers to choose from: a question's own, or a list that the configuration names.

use std::{collections::HashMap, sync::Arc};

use blip::{TokenizeError, Tokenizer};

/// Candidate answers, ready for an engine. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// As they were given.
    pub texts: Arc<[String]>,
    /// Token ids of each, without special ones.
    pub ids: Arc<[Vec<i64>]>,
    /// Digest of the token ids.
    pub digest: [u8; 32],
}

/// Lists of candidates by their names.
pub type CandidateLists = HashMap<String, Candidates>;

/// Why candidates can't be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// One that holds nothing that the model has a word for.
    #[error("it holds no text")]
    Empty,
    /// One that the tokenizer refuses.
    #[error(transparent)]
    Unreadable(#[from] TokenizeError),
}

impl Candidates {
    /// Tokenizes `texts`.
    ///
    /// # Errors
    /// The position of the first one that can't be taken, and why.
    pub fn new(texts: Vec<String>, tokenizer: &Tokenizer) -> Result<Self, (usize, CandidateError)> {
        let encode = |(position, text): (usize, &String)| {
            let ids = tokenizer.encode_bare(text).map_err(|error| (position, error.into()))?;
            if ids.is_empty() { Err((position, CandidateError::Empty)) } else { Ok(ids) }
        };
        let ids: Arc<[Vec<i64>]> = texts.iter().enumerate().map(encode).collect::<Result<_, _>>()?;
        // A token id is never negative, so this tells the end of one from the beginning of the next.
        let bytes: Vec<u8> =
            ids.iter().flat_map(|ids| ids.iter().chain([&-1])).flat_map(|id| id.to_le_bytes()).collect();
        Ok(Self { texts: texts.into(), ids, digest: images::digest(&bytes).0 })
    }

    /// Tokens of the decoder for so many of them, as a rough measure of the work: the stop token counts.
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
    fn candidates_have_no_special_tokens_and_a_digest_of_their_own() {
        let [one, other] = [&["yes", "no"], &["no", "yes"]].map(|texts| candidates(texts).unwrap());
        assert_eq!(one.ids.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        assert_ne!(one.digest, other.digest);
        assert_eq!((one.tokens(128), one.tokens(1)), (4, 2));
    }

    #[test]
    fn a_candidate_without_words_is_named_by_its_position() {
        assert_eq!(candidates(&["yes", " \t"]).unwrap_err(), (1, CandidateError::Empty));
    }
}
