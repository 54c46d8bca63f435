//! `BertTokenizer` of transformers 5.17: its components with the options in the settings.

use ahash::AHashMap;
use tokenizers::{
    NormalizerWrapper, Tokenizer, decoders::wordpiece::WordPiece as WordPieceDecoder,
    models::wordpiece::WordPiece, normalizers::BertNormalizer, pre_tokenizers::bert::BertPreTokenizer,
    processors::template::TemplateProcessing,
};

use crate::{checkpoint::tokenizer::settings::TokenizerSettings, error::LoadError};

/// Builds the tokenizer around the vocabulary, the added tokens and the post-processor of `stated`,
/// the tokenizer in the file `file`.
pub(super) fn from_tokenizer(
    stated: &Tokenizer,
    settings: &TokenizerSettings,
    file: &str,
) -> Result<Tokenizer, LoadError> {
    let vocabulary = stated.get_vocab(false).into_iter().collect();
    let mut tokenizer = from_vocabulary(vocabulary, settings, file)?;
    warn_of_other_normalizer(stated, settings);
    if let Some(post_processor) = stated.get_post_processor() {
        tokenizer.with_post_processor(Some(post_processor.clone()));
    }
    if !settings.added.as_ref().is_some_and(|added| added.replaces_others) {
        let mut added: Vec<_> = stated.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        tokenizer.add_tokens(&added.into_iter().map(|(_, token)| token).collect::<Vec<_>>());
    }
    Ok(tokenizer)
}

/// Builds the tokenizer around the vocabulary of the file `file`.
pub(super) fn from_vocabulary(
    vocabulary: AHashMap<String, u32>,
    settings: &TokenizerSettings,
    file: &str,
) -> Result<Tokenizer, LoadError> {
    let invalid = |error: String| LoadError::invalid(file, error);
    let special = |key| -> Result<(String, u32), LoadError> {
        let token = settings.special_token(key).unwrap_or_default();
        let id = vocabulary.get(token).ok_or_else(|| invalid(format!("missing token {token}")))?;
        Ok((token.to_owned(), *id))
    };
    let (cls, sep, (unknown, _)) = (special("cls_token")?, special("sep_token")?, special("unk_token")?);
    let template = TemplateProcessing::builder()
        .try_single(vec![format!("{}:0", cls.0), "$A:0".to_owned(), format!("{}:0", sep.0)])
        .map_err(|error| invalid(error.to_string()))?
        .special_tokens(vec![cls, sep])
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    let model = WordPiece::builder()
        .vocab(vocabulary)
        .unk_token(unknown)
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(normalizer(settings)))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(template))
        .with_decoder(Some(WordPieceDecoder::default()));
    Ok(tokenizer)
}

fn normalizer(settings: &TokenizerSettings) -> BertNormalizer {
    let TokenizerSettings { do_lower_case, strip_accents, tokenize_chinese_chars, .. } = settings;
    BertNormalizer::new(
        true,
        tokenize_chinese_chars.unwrap_or(true),
        *strip_accents,
        do_lower_case.unwrap_or(true),
    )
}

/// Logs that the reference does not use the normalizer in `tokenizer.json`.
fn warn_of_other_normalizer(stated: &Tokenizer, settings: &TokenizerSettings) {
    let used = normalizer(settings);
    let is_used = matches!(stated.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(stated))
        if (stated.clean_text, stated.handle_chinese_chars, stated.strip_accents, stated.lowercase)
            == (used.clean_text, used.handle_chinese_chars, used.strip_accents, used.lowercase));
    if !is_used {
        tracing::warn!(
            do_lower_case = used.lowercase,
            strip_accents = ?used.strip_accents,
            tokenize_chinese_chars = used.handle_chinese_chars,
            "normalizer of tokenizer.json not used: tokenizer_config.json or the defaults of BertTokenizer differ"
        );
    }
}
