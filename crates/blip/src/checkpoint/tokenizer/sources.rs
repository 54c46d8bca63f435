//! Builds the tokenizer from its files: `tokenizer.json` or `vocab.txt`, and the settings beside
//! them.

use tokenizers::{ModelWrapper, Tokenizer};

use crate::{
    checkpoint::{
        config::text::TextConfig,
        files::{ModelFiles, TOKENIZER_FILES},
        tokenizer::{added_tokens, bert, settings::TokenizerSettings},
    },
    error::LoadError,
};

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const VOCABULARY: &str = "vocab.txt";

/// Reads `tokenizer.json` or `vocab.txt`, as `AutoTokenizer` of transformers 5.17 does.
///
/// The reference loads a BLIP model's tokenizer with `BertTokenizer`. Of `tokenizer.json`, this
/// class reads the vocabulary, the added tokens and the post-processor. The rest follows from
/// `tokenizer_config.json` and the defaults of the class. If `tokenizer_config.json` states another
/// class, the whole `tokenizer.json` is used.
///
/// # Errors
/// [`LoadError`] if both files are missing, or one is malformed.
pub(super) fn read(files: &ModelFiles, config: &TextConfig) -> Result<Tokenizer, LoadError> {
    let settings = TokenizerSettings::read(files)?;
    let mut tokenizer = match files.read(TOKENIZER)? {
        Some(json) => {
            let stated =
                Tokenizer::from_bytes(&json).map_err(|error| LoadError::invalid(TOKENIZER, error))?;
            match stated.get_model() {
                ModelWrapper::WordPiece(_) if settings.is_bert() => {
                    bert::from_tokenizer(&stated, &settings, TOKENIZER)?
                }
                _ => stated,
            }
        }
        None => from_vocabulary(files, config, &settings)?,
    };
    added_tokens::add(&mut tokenizer, &settings, config.vocab_size)?;
    Ok(tokenizer)
}

fn from_vocabulary(
    files: &ModelFiles,
    config: &TextConfig,
    settings: &TokenizerSettings,
) -> Result<Tokenizer, LoadError> {
    let text = files.read(VOCABULARY)?.ok_or(LoadError::MissingFile(TOKENIZER_FILES))?;
    let text = std::str::from_utf8(&text).map_err(|error| LoadError::invalid(VOCABULARY, error))?;
    let vocabulary = text.lines().zip(0u32..).map(|(token, id)| (token.trim_end().to_owned(), id));
    let tokenizer = bert::from_vocabulary(vocabulary.collect(), settings, VOCABULARY)?;
    let sep = settings.special_token("sep_token").unwrap_or_default();
    match tokenizer.token_to_id(sep) {
        Some(id) if i64::from(id) != config.sep_token_id => {
            let expected = config.sep_token_id;
            let reason = format!("token id of {sep} is {id}, config.json has sep_token_id {expected}");
            Err(LoadError::invalid(VOCABULARY, reason))
        }
        _ => Ok(tokenizer),
    }
}
