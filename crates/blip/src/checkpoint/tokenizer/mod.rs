//! The tokenizer: texts to token ids and back, with the `tokenizers` library.

pub(crate) mod sources;
pub(crate) mod added_tokens;
pub(crate) mod bert;
pub(crate) mod settings;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    checkpoint::{
        config::BlipConfig,
        conventions::{Conventions, TextConventions},
        files::ModelFiles,
        tokenizer::sources::TOKENIZER,
    },
    error::LoadError,
};

/// BERT's WordPiece tokenizer with the special token ids of BLIP.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: std::sync::Arc<tokenizers::Tokenizer>,
    max_tokens: usize,
    start_token: i64,
    control: [i64; 3],
    conventions: TextConventions,
}

/// Error of tokenizing a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// The text has more tokens than the model has positions.
    #[error("question has {tokens} tokens, limit is {limit}")]
    TooLong {
        /// Tokens of the text, with special tokens.
        tokens: usize,
        /// Number of positions of the model.
        limit: usize,
    },
    /// The tokenizer library failed.
    #[error("tokenizer failed: {0}")]
    Tokenizer(String),
}

impl Tokenizer {
    /// Reads `tokenizer.json`, or builds BERT's tokenizer around `vocab.txt`.
    ///
    /// # Errors
    /// [`LoadError`] if both files are missing, one is invalid, or an id exceeds the model's
    /// vocabulary.
    pub(crate) fn open(
        files: &ModelFiles,
        blip: &BlipConfig,
        conventions: Conventions,
    ) -> Result<Self, LoadError> {
        let config = &blip.text;
        let read = without_panic(|| sources::read(files, config));
        let mut inner = read.unwrap_or_else(|| Err(LoadError::invalid(TOKENIZER, PANIC)))?;
        // The model pads batches, and `encode` rejects texts that are too long. The padding and
        // truncation in the file are not used.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| LoadError::invalid(TOKENIZER, error))?;
        let largest = inner.get_vocab(true).into_values().max().map_or(0, i64::from);
        if largest >= config.vocab_size {
            let reason =
                format!("largest token id is {largest}, expected below vocab_size {}", config.vocab_size);
            return Err(LoadError::invalid(TOKENIZER, reason));
        }
        let largest = conventions.largest_token(blip);
        if largest >= config.vocab_size {
            let reason = format!(
                "conventions {conventions} need token id {largest}, expected below vocab_size {}",
                config.vocab_size
            );
            return Err(LoadError::invalid("config.json", reason));
        }
        let tokenizer = Self {
            inner: inner.into(),
            max_tokens: usize::try_from(config.max_position_embeddings).unwrap_or(0),
            start_token: config.bos_token_id,
            control: [config.bos_token_id, config.sep_token_id, config.pad_token_id],
            conventions: conventions.texts(blip),
        };
        // The post-processor states ids apart from the vocabulary.
        let ids = tokenizer.ids("", true).map_err(|error| LoadError::invalid(TOKENIZER, error))?;
        match ids.into_iter().max() {
            Some(id) if id >= config.vocab_size => {
                let limit = config.vocab_size;
                let reason = format!("id of a special token is {id}, expected below vocab_size {limit}");
                Err(LoadError::invalid(TOKENIZER, reason))
            }
            _ => Ok(tokenizer),
        }
    }

    /// Returns the token ids of a question, or of a text that is compared with images, as the
    /// conventions define them. They run from `[CLS]`, or the token that replaces it, to `[SEP]`.
    ///
    /// # Errors
    /// [`TokenizeError::TooLong`] if the text has more tokens than the model has positions.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TokenizeError> {
        let TextConventions { normalize, max_tokens, first_token, .. } = self.conventions;
        let mut ids = match normalize {
            Some(normalize) => self.ids(&normalize(text), true)?,
            None => self.ids(text, true)?,
        };
        if let (Some(limit), Some(&last)) = (max_tokens, ids.last())
            && ids.len() > limit
        {
            ids.truncate(limit.saturating_sub(1));
            ids.push(last);
        }
        if let (Some(token), Some(first)) = (first_token, ids.first_mut()) {
            *first = token;
        }
        self.checked_length(ids)
    }

    /// Returns the token ids of a caption's prompt: the start token, then the tokens of the text.
    /// The reference builds them from `[CLS]` and the tokens before `[SEP]`. An empty text selects
    /// the default prompt of the conventions: none, or "a picture of ".
    ///
    /// # Errors
    /// [`TokenizeError::TooLong`] if the text has more tokens than the model has positions.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<i64>, TokenizeError> {
        let text = if text.is_empty() { self.conventions.prompt.unwrap_or_default() } else { text };
        let mut ids = vec![self.start_token];
        ids.extend(self.ids(text, false)?);
        self.checked_length(ids)
    }

    /// Returns the token ids of a text without special tokens, such as a candidate answer. The text
    /// is not normalized by the conventions.
    ///
    /// # Errors
    /// [`TokenizeError::TooLong`] if the text has more tokens than the model has positions.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<i64>, TokenizeError> {
        self.checked_length(self.ids(text, false)?)
    }

    fn ids(&self, text: &str, special_tokens: bool) -> Result<Vec<i64>, TokenizeError> {
        let encoding = without_panic(|| self.inner.encode_fast(text, special_tokens));
        let encoding = encoding.ok_or_else(|| TokenizeError::Tokenizer(PANIC.to_owned()))?;
        let encoding = encoding.map_err(|error| TokenizeError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    fn checked_length(&self, ids: Vec<i64>) -> Result<Vec<i64>, TokenizeError> {
        let tokens = ids.len();
        if tokens > self.max_tokens {
            return Err(TokenizeError::TooLong { tokens, limit: self.max_tokens });
        }
        Ok(ids)
    }

    /// Returns the text of a caption from its prompt and the tokens `generated` after it.
    ///
    /// The text includes the prompt, unless the conventions have a default prompt, which is then
    /// removed.
    pub fn decode_caption(&self, prompt: &[i64], generated: &[i64]) -> String {
        let text = self.decode(&[prompt, generated].concat());
        match self.conventions.prompt {
            Some(_) => match text.strip_prefix(&self.decode(prompt)) {
                Some(rest) => rest.trim_start().to_owned(),
                None => text,
            },
            None => text,
        }
    }

    /// Returns the text of token ids, without start, stop, padding and other special tokens.
    pub fn decode(&self, ids: &[i64]) -> String {
        let ids: Vec<u32> = ids
            .iter()
            .filter(|id| !self.control.contains(id))
            .filter_map(|&id| u32::try_from(id).ok())
            .collect();
        without_panic(|| self.inner.decode(&ids, true)).and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the length of the longest question in tokens, with `[CLS]` and `[SEP]`.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}

/// The cause of a failure of the tokenizer library.
const PANIC: &str = "a component in tokenizer.json is malformed";

/// Calls the tokenizer library. Returns `None` if it panics.
///
/// The library does not check all that it reads, such as the character map of `Precompiled` or the
/// lengths of `Strip`. It then panics on some texts.
fn without_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
