//! Adds the tokens of the settings to a tokenizer: those that were added in training, and special
//! tokens.

use tokenizers::Tokenizer;

use crate::{
    checkpoint::tokenizer::settings::{AddedTokens, TokenizerSettings},
    error::LoadError,
};

/// Adds the added tokens in the order of their ids, then special tokens that are not among them.
///
/// A special token without a word embedding in the model, which has `vocab_size` of them, is left
/// out.
///
/// # Errors
/// [`LoadError::Invalid`] if a token has another id than the file states.
pub(super) fn add(
    tokenizer: &mut Tokenizer,
    settings: &TokenizerSettings,
    vocab_size: i64,
) -> Result<(), LoadError> {
    if let Some(AddedTokens { file, tokens, .. }) = &settings.added {
        tokenizer.add_tokens(&tokens.values().cloned().collect::<Vec<_>>());
        for (&id, token) in tokens.iter().filter(|(_, token)| !token.content.is_empty()) {
            let found = tokenizer.token_to_id(&token.content);
            if found != Some(id) {
                let (content, found) = (&token.content, found.unwrap_or_default());
                let reason = format!("id of added token {content:?} is {id}, expected {found}");
                return Err(LoadError::invalid(*file, reason));
            }
        }
    }
    for token in settings.special_tokens() {
        let has_embedding = || i64::try_from(tokenizer.get_vocab_size(true)).is_ok_and(|id| id < vocab_size);
        let is_added = tokenizer.get_added_vocabulary().get_vocab().contains_key(&token.content);
        if !is_added && (tokenizer.token_to_id(&token.content).is_some() || has_embedding()) {
            tokenizer.add_tokens(&[token]);
        }
    }
    Ok(())
}
