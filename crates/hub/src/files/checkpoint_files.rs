//! Which files of a model a checkpoint is made of.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Weights in one file, then the index of several; the first that a model has is taken.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

const REQUIRED: [&str; 2] = ["config.json", "preprocessor_config.json"];
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.txt"];
const OPTIONAL: [&str; 3] = ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"];

/// How weights end that are not taken, or not alone.
const WEIGHT_EXTENSIONS: [&str; 6] = [".safetensors", ".bin", ".pth", ".h5", ".msgpack", ".ckpt"];

/// How many files an error names.
const MAX_NAMED: usize = 6;

/// The files to take, of those that `has` says are there, the shards that an index names aside.
///
/// # Errors
/// What is missing.
pub(crate) fn select(has: impl Fn(&str) -> bool) -> Result<Vec<&'static str>, &'static str> {
    if let Some(missing) = REQUIRED.into_iter().find(|file| !has(file)) {
        return Err(missing);
    }
    if !TOKENIZERS.into_iter().any(&has) {
        return Err("tokenizer.json nor vocab.txt");
    }
    let weights = WEIGHTS.into_iter().find(|file| has(file));
    let weights = weights.ok_or("model.safetensors nor pytorch_model.bin")?;
    Ok(non_weight_files().filter(|file| has(file)).chain([weights]).collect())
}

/// Every file that can be part of a checkpoint, the weights aside.
pub(crate) fn non_weight_files() -> impl Iterator<Item = &'static str> {
    REQUIRED.into_iter().chain(TOKENIZERS).chain(OPTIONAL)
}

/// The index among the files that were chosen, if the weights are in shards.
pub(crate) fn weight_index<'f>(chosen: &[&'f str]) -> Option<&'f str> {
    chosen.iter().copied().find(|file| file.ends_with(".index.json"))
}

/// What a model has in place of what is missing, for people.
pub(crate) fn summarize(files: &[String]) -> String {
    let mut named: Vec<&str> = files.iter().map(String::as_str).collect();
    let is_weights = |file: &&str| WEIGHT_EXTENSIONS.iter().any(|ending| file.ends_with(ending));
    if named.iter().any(is_weights) {
        named.retain(|file| is_weights(file));
    }
    let more = if named.len() > MAX_NAMED { " and others" } else { "" };
    named.truncate(MAX_NAMED);
    match named.as_slice() {
        [] => "no files".to_owned(),
        named => format!("{}{more}", named.join(", ")),
    }
}

/// The shards that an index names.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn shard_names(index: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    // They become paths in the cache.
    let is_plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_weights = name.ends_with(".safetensors") || name.ends_with(".bin");
        is_weights && !name.starts_with('.') && name.bytes().all(allowed)
    };
    match shards.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(format!("it names {name:?}, which is no name of a shard")),
        None => Ok(shards.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [&str; 4] = ["config.json", "preprocessor_config.json", "vocab.txt", "model.safetensors"];

    fn chosen(files: &[&str]) -> Result<Vec<&'static str>, &'static str> {
        select(|file| files.contains(&file))
    }

    #[test]
    fn a_checkpoint_is_taken_and_nothing_else() {
        let more = [&WHOLE[..], &WEIGHTS[1..], &["README.md"]].concat();
        assert_eq!(chosen(&more).unwrap(), WHOLE);
    }

    #[test]
    fn safetensors_come_before_pickles_and_one_file_before_shards() {
        for first in 0..WEIGHTS.len() {
            let files = [&WHOLE[..3], &WEIGHTS[first..]].concat();
            let chosen = chosen(&files).unwrap();
            assert_eq!(chosen, [&WHOLE[..3], &[WEIGHTS[first]]].concat());
            assert_eq!(weight_index(&chosen), Some(WEIGHTS[first]).filter(|file| file.contains("index")));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (index, missing) in WHOLE.into_iter().enumerate() {
            let mut files = WHOLE.to_vec();
            files.remove(index);
            let repository_error = chosen(&files).unwrap_err();
            assert!(repository_error.contains(missing), "{repository_error}");
        }
    }

    #[test]
    fn of_weights_in_other_formats_it_is_said_that_they_are_there() {
        let files = ["README.md", "model_base.pth", "tf_model.h5"].map(str::to_owned);
        assert_eq!(summarize(&files), "model_base.pth, tf_model.h5");
        assert_eq!(summarize(&["README.md".to_owned()]), "README.md");
        assert_eq!(summarize(&[]), "no files");
    }

    #[test]
    fn an_index_names_its_shards_and_no_paths() {
        let index = br#"{"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-1.safetensors"}}"#;
        assert_eq!(shard_names(index).unwrap(), ["model-1.safetensors", "model-2.safetensors"]);
        assert_eq!(shard_names(br#"{"weight_map": {"a": "model-1.bin"}}"#).unwrap(), ["model-1.bin"]);
        for name in ["../x.safetensors", "/x.safetensors", "a/b.safetensors", "config.json", ".x.safetensors"]
        {
            let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
            assert!(shard_names(index.as_bytes()).is_err(), "{name}");
        }
        assert!(shard_names(b"[]").is_err());
    }
}
