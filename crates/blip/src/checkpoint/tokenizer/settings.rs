//! `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, read as
//! `BertTokenizer` of transformers 5.17 reads them.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokenizers::AddedToken;

use crate::{checkpoint::files::ModelFiles, error::LoadError};

pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";

/// Keys of special tokens, with the token of `BertTokenizer` if no file names one.
const SPECIAL_TOKENS: [(&str, Option<&str>); 7] = [
    ("bos_token", None),
    ("eos_token", None),
    ("unk_token", Some("[UNK]")),
    ("sep_token", Some("[SEP]")),
    ("pad_token", Some("[PAD]")),
    ("cls_token", Some("[CLS]")),
    ("mask_token", Some("[MASK]")),
];

/// Settings of a tokenizer besides its vocabulary.
#[derive(Debug, Default)]
pub(super) struct TokenizerSettings {
    /// Name of the class in `transformers`.
    class: Option<String>,
    pub(super) do_lower_case: Option<bool>,
    /// Without a value, accents are removed if texts are converted to lower case.
    pub(super) strip_accents: Option<bool>,
    pub(super) tokenize_chinese_chars: Option<bool>,
    /// Special tokens by key, such as `cls_token`.
    named: BTreeMap<String, AddedToken>,
    /// Special tokens without a key.
    extra: Vec<AddedToken>,
    /// Tokens by id that were added to the vocabulary, and the file that lists them.
    pub(super) added: Option<AddedTokens>,
}

/// Added tokens by id.
#[derive(Debug)]
pub(super) struct AddedTokens {
    /// Name of the file that lists the tokens.
    pub(super) file: &'static str,
    pub(super) tokens: BTreeMap<u32, AddedToken>,
    /// Whether the tokens of `tokenizer.json` are not used.
    pub(super) replaces_others: bool,
}

impl TokenizerSettings {
    /// Reads the files, each of which may be missing.
    ///
    /// # Errors
    /// [`LoadError`] names the malformed file.
    pub(super) fn read(files: &ModelFiles) -> Result<Self, LoadError> {
        let config: ConfigFile = read(files, TOKENIZER_CONFIG)?.unwrap_or_default();
        let mut settings = Self {
            class: config.tokenizer_class,
            do_lower_case: config.do_lower_case,
            strip_accents: config.strip_accents,
            tokenize_chinese_chars: config.tokenize_chinese_chars,
            ..Self::default()
        };
        settings.add_named(config.other)?;
        let extra = config.extra_special_tokens.or(config.additional_special_tokens);
        settings.extra = extra.map(SpecialList::tokens).unwrap_or_default();
        if let Some(tokens) = config.added_tokens_decoder {
            let tokens = tokens.into_iter().map(|(id, token)| (id, token.token(false))).collect();
            settings.added = Some(AddedTokens { file: TOKENIZER_CONFIG, tokens, replaces_others: true });
        } else {
            settings.read_old_files(files)?;
        }
        Ok(settings)
    }

    /// Reads the files that `transformers` wrote before `added_tokens_decoder` existed.
    fn read_old_files(&mut self, files: &ModelFiles) -> Result<(), LoadError> {
        let map: Option<SpecialTokensMap> = read(files, SPECIAL_TOKENS_MAP)?;
        let map = map.unwrap_or_default();
        self.add_named(map.other)?;
        self.extra.extend(map.extra_special_tokens.map(SpecialList::tokens).unwrap_or_default());
        let ids: Option<HashMap<String, u32>> = read(files, ADDED_TOKENS)?;
        let token = |(content, id): (String, u32)| {
            let is_special = self.named_tokens().chain(&self.extra).any(|token| token.content == content);
            (id, AddedToken::from(content, is_special))
        };
        self.added = ids.map(|ids| AddedTokens {
            file: ADDED_TOKENS,
            tokens: ids.into_iter().map(token).collect(),
            replaces_others: false,
        });
        // The reference looks for special tokens among those of added_tokens.json before this list.
        self.extra.extend(map.additional_special_tokens.map(SpecialList::tokens).unwrap_or_default());
        Ok(())
    }

    fn add_named(&mut self, other: BTreeMap<String, Value>) -> Result<(), LoadError> {
        for (key, value) in other {
            let is_known = SPECIAL_TOKENS.iter().any(|(known, _)| *known == key);
            // A checkpoint may name more special tokens, such as `image_token`.
            if value.is_null() || !(is_known || key.ends_with("_token")) {
                continue;
            }
            match serde_json::from_value::<StatedToken>(value) {
                Ok(token) => self.named.insert(key, token.token(true)),
                Err(error) if is_known => {
                    return Err(LoadError::invalid(TOKENIZER_CONFIG, format!("{key}: {error}")));
                }
                // Such as `add_bos_token`, which is a boolean.
                Err(_) => continue,
            };
        }
        Ok(())
    }

    /// Returns whether `transformers` loads the tokenizer with its class for BERT.
    pub(super) fn is_bert(&self) -> bool {
        let class = self.class.as_deref().unwrap_or("BertTokenizer");
        class.strip_suffix("Fast").unwrap_or(class) == "BertTokenizer"
    }

    /// Returns the special token of a key such as `cls_token`, if the files or the class name one.
    pub(super) fn special_token(&self, key: &str) -> Option<&str> {
        let default = || SPECIAL_TOKENS.iter().find(|(known, _)| *known == key)?.1;
        self.named.get(key).map(|token| token.content.as_str()).or_else(default)
    }

    /// Returns all special tokens, in the order in which the reference adds them to a vocabulary.
    pub(super) fn special_tokens(&self) -> Vec<AddedToken> {
        let known = SPECIAL_TOKENS.iter().filter_map(|(key, default)| {
            self.named.get(*key).cloned().or_else(|| Some(AddedToken::from((*default)?, true)))
        });
        let is_known = |key: &str| SPECIAL_TOKENS.iter().any(|(known, _)| *known == key);
        let more = self.named.iter().filter(|(key, _)| !is_known(key)).map(|(_, token)| token.clone());
        known.chain(more).chain(self.extra.iter().cloned()).collect()
    }

    fn named_tokens(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.values()
    }
}

/// Reads a JSON file, if it exists.
fn read<T: DeserializeOwned>(files: &ModelFiles, name: &'static str) -> Result<Option<T>, LoadError> {
    let Some(json) = files.read(name)? else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|error| LoadError::invalid(name, error))
}

#[derive(Default, Deserialize)]
struct ConfigFile {
    tokenizer_class: Option<String>,
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    added_tokens_decoder: Option<BTreeMap<u32, StatedToken>>,
    extra_special_tokens: Option<SpecialList>,
    additional_special_tokens: Option<SpecialList>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
struct SpecialTokensMap {
    extra_special_tokens: Option<SpecialList>,
    additional_special_tokens: Option<SpecialList>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// Special tokens with or without names.
#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialList {
    Unnamed(Vec<StatedToken>),
    Named(BTreeMap<String, StatedToken>),
}

impl SpecialList {
    fn tokens(self) -> Vec<AddedToken> {
        let tokens = match self {
            Self::Unnamed(tokens) => tokens,
            Self::Named(tokens) => tokens.into_values().collect(),
        };
        tokens.into_iter().map(|token| token.token(true)).collect()
    }
}

/// A token as a text, or as an object with its properties.
#[derive(Deserialize)]
#[serde(untagged)]
enum StatedToken {
    Text(String),
    Object {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        normalized: Option<bool>,
        #[serde(default)]
        special: bool,
    },
}

impl StatedToken {
    /// Returns the token. A token in a list of special tokens is special without stating it.
    fn token(self, is_listed_as_special: bool) -> AddedToken {
        match self {
            Self::Text(content) => AddedToken::from(content, is_listed_as_special),
            Self::Object { content, single_word, lstrip, rstrip, normalized, special } => {
                let special = special || is_listed_as_special;
                let normalized = normalized.unwrap_or(!special);
                AddedToken { content, single_word, lstrip, rstrip, normalized, special }
            }
        }
    }
}
