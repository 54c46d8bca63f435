//! The files that define a tokenizer: `tokenizer.json`, or `vocab.txt` with
//! `tokenizer_config.json`.

use ahash::AHashMap;
use serde::Deserialize;
use tokenizers::{
    AddedToken, Tokenizer, decoders::wordpiece::WordPiece as WordPieceDecoder, models::wordpiece::WordPiece,
    normalizers::BertNormalizer, pre_tokenizers::bert::BertPreTokenizer,
    processors::template::TemplateProcessing,
};

use crate::{
    checkpoint::{config::text::TextConfig, files::ModelFiles},
    error::LoadError,
};

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const VOCABULARY: &str = "vocab.txt";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Reads `tokenizer.json`, or builds BERT's tokenizer from `vocab.txt`.
///
/// # Errors
/// [`LoadError`] if both files are missing, or one is malformed.
pub(super) fn read(files: &ModelFiles, config: &TextConfig) -> Result<Tokenizer, LoadError> {
    match files.read(TOKENIZER)? {
        Some(json) => Tokenizer::from_bytes(&json).map_err(|error| LoadError::invalid(TOKENIZER, error)),
        None => from_vocabulary(files, config),
    }
}

/// Builds BERT's tokenizer with the components and options of `BertTokenizerFast`.
fn from_vocabulary(files: &ModelFiles, config: &TextConfig) -> Result<Tokenizer, LoadError> {
    let text = files.read(VOCABULARY)?.ok_or(LoadError::MissingFile("tokenizer.json or vocab.txt"))?;
    let text = std::str::from_utf8(&text).map_err(|error| LoadError::invalid(VOCABULARY, error))?;
    let vocabulary = text.lines().zip(0u32..).map(|(token, id)| (token.trim_end().to_owned(), id));
    let invalid = |error: String| LoadError::invalid(VOCABULARY, error);
    let model = WordPiece::builder()
        .vocab(vocabulary.collect::<AHashMap<_, _>>())
        .unk_token("[UNK]".to_owned())
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    let id =
        |token: &str| tokenizer.token_to_id(token).ok_or_else(|| invalid(format!("missing token {token}")));
    let (cls, sep) = (id("[CLS]")?, id("[SEP]")?);
    id("[UNK]")?;
    if i64::from(sep) != config.sep_token_id {
        return Err(invalid(format!(
            "token id of [SEP] is {sep}, config.json has sep_token_id {}",
            config.sep_token_id
        )));
    }
    let template = TemplateProcessing::builder()
        .try_single("[CLS]:0 $A:0 [SEP]:0")
        .map_err(&invalid)?
        .special_tokens(vec![("[CLS]", cls), ("[SEP]", sep)])
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    tokenizer
        .with_normalizer(Some(BertNormalizer::new(true, true, None, lower_case(files)?)))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(template))
        .with_decoder(Some(WordPieceDecoder::default()));
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(|token| AddedToken::from(token, true))
        .into_iter()
        .filter(|token| tokenizer.token_to_id(&token.content).is_some())
        .collect::<Vec<_>>();
    tokenizer.add_special_tokens(&specials);
    Ok(tokenizer)
}

/// Returns whether texts are converted to lower case, from `tokenizer_config.json`. The default is
/// true, as for BERT uncased.
fn lower_case(files: &ModelFiles) -> Result<bool, LoadError> {
    #[derive(Deserialize)]
    struct File {
        do_lower_case: Option<bool>,
    }
    let Some(json) = files.read(TOKENIZER_CONFIG)? else { return Ok(true) };
    let file: File =
        serde_json::from_slice(&json).map_err(|error| LoadError::invalid(TOKENIZER_CONFIG, error))?;
    Ok(file.do_lower_case.unwrap_or(true))
}
