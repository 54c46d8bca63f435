//! The tokenizer: texts to token ids and back, with the `tokenizers` library.

pub(crate) mod sources;

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
        let mut inner = sources::read(files, config)?;
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
        Ok(Self {
            inner: inner.into(),
            max_tokens: usize::try_from(config.max_position_embeddings).unwrap_or(0),
            start_token: config.bos_token_id,
            control: [config.bos_token_id, config.sep_token_id, config.pad_token_id],
            conventions: conventions.texts(blip),
        })
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
        let encoding = self.inner.encode_fast(text, special_tokens);
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
        self.inner.decode(&ids, true).unwrap_or_default()
    }

    /// Returns the length of the longest question in tokens, with `[CLS]` and `[SEP]`.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}

#[cfg(test)]
mod tests {
    use super::{sources::VOCABULARY, *};
    use crate::checkpoint::config::{Architecture, text::TextConfig};

    const VOCAB: &[u8] = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhow\nmany\ndog\n##s\n?\ncafe\n";

    fn config() -> TextConfig {
        TextConfig {
            vocab_size: 13,
            sep_token_id: 3,
            bos_token_id: 11,
            max_position_embeddings: 8,
            ..Default::default()
        }
    }

    fn open(files: &'static [(&'static str, &'static [u8])]) -> Result<Tokenizer, LoadError> {
        let config = BlipConfig { text: config(), ..BlipConfig::default() };
        Tokenizer::open(&ModelFiles::Embedded(files), &config, Conventions::Hf)
    }

    fn original(architecture: Architecture) -> Result<Tokenizer, LoadError> {
        let stated_architectures = vec![architecture.class().to_owned()];
        let config = BlipConfig { text: config(), stated_architectures, ..BlipConfig::default() };
        Tokenizer::open(&ModelFiles::Embedded(&[(VOCABULARY, VOCAB)]), &config, Conventions::Salesforce)
    }

    #[test]
    fn vocabulary_alone_builds_bert_tokenizer() {
        let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
        assert_eq!(tokenizer.encode("How many  dogs?").unwrap(), [2, 5, 6, 7, 8, 9, 3]);
        assert_eq!(
            tokenizer.encode("CAFÉ cat").unwrap(),
            [2, 10, 1, 3],
            "accents are stripped, unknown words are [UNK]"
        );
        assert_eq!(tokenizer.encode("").unwrap(), [2, 3]);
    }

    #[test]
    fn prompt_begins_with_start_token_and_bare_text_does_not() {
        let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
        assert_eq!(tokenizer.encode_prompt("how many").unwrap(), [11, 5, 6]);
        assert_eq!(tokenizer.encode_prompt("").unwrap(), [11]);
        assert_eq!(tokenizer.encode_bare("how many").unwrap(), [5, 6]);
        assert!(tokenizer.encode_bare(" ").unwrap().is_empty());
    }

    #[test]
    fn decoded_text_has_no_control_tokens_and_joined_pieces() {
        let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
        assert_eq!(tokenizer.decode(&[11, 5, 6, 7, 8, 3, 0, 0]), "how many dogs");
        assert_eq!(tokenizer.decode(&[11, 3]), "");
    }

    #[test]
    fn caption_begins_with_prompt_and_start_token_has_a_position() {
        let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
        assert_eq!(tokenizer.decode_caption(&[11, 5, 6], &[7, 8, 3]), "how many dogs");
        assert!(
            tokenizer.encode_prompt("how how how how how how how how").is_err(),
            "the start token has a position, too"
        );
    }

    #[test]
    fn original_question_is_normalized_and_begins_with_enc() {
        let tokenizer = original(Architecture::QuestionAnswering).unwrap();
        assert_eq!(tokenizer.encode("How many: (dogs)?!").unwrap(), [12, 5, 6, 7, 8, 9, 3]);
        let tokenizer = original(Architecture::Retrieval).unwrap();
        assert_eq!(tokenizer.encode("How.many").unwrap(), [2, 5, 6, 3], "embeddings begin with [CLS]");
    }

    #[test]
    fn original_prompt_is_removed_from_captions() {
        let tokenizer = original(Architecture::Captioning).unwrap();
        let prompt = tokenizer.encode_prompt("").unwrap();
        assert_eq!(prompt, [11, 1, 1, 1], "a picture of, in a vocabulary without these words");
        assert_eq!(tokenizer.decode_caption(&prompt, &[7, 8, 3]), "dogs");
        assert_eq!(tokenizer.decode_caption(&[11, 5], &[6, 3]), "many");
    }

    #[test]
    fn question_longer_than_positions_is_rejected_with_length() {
        let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
        assert_eq!(tokenizer.encode("how how how how how how").unwrap().len(), 8);
        let error = tokenizer.encode("how how how how how how how").unwrap_err();
        assert_eq!(error, TokenizeError::TooLong { tokens: 9, limit: 8 });
    }

    #[test]
    fn vocabulary_that_does_not_fit_the_model_is_rejected() {
        assert!(open(&[]).unwrap_err().to_string().contains("tokenizer.json or vocab.txt"));
        let error = open(&[(VOCABULARY, b"[PAD]\n[UNK]\n[CLS]\nx\n[SEP]\n")]).unwrap_err().to_string();
        assert!(error.contains("sep_token_id"), "{error}");
        let error = open(&[(VOCABULARY, b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\nd\ne\nf\ng\nh\ni\nj\n")]);
        assert!(error.unwrap_err().to_string().contains("vocab_size"));
    }
}
