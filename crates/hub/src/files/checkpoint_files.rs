//! Selects the files of a repository that a checkpoint needs.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Files of weights, or indices of several such files. The first that a model has is selected.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

const CONFIG: &str = "config.json";
/// Files of which a model has at least one. transformers writes only the second since version 5.
const PREPROCESSORS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "vocab.txt"];
const OPTIONAL: [&str; 4] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/// Extensions of weights in all formats, for the error of a model without supported weights.
const WEIGHT_EXTENSIONS: [&str; 6] = [".safetensors", ".bin", ".pth", ".h5", ".msgpack", ".ckpt"];

/// Largest number of files in an error.
const MAX_LISTED: usize = 6;

/// Selects the files of a checkpoint from those for which `has` returns true.
///
/// The shards of an index are not included.
///
/// # Errors
/// The missing file or files.
pub(crate) fn select(has: impl Fn(&str) -> bool) -> Result<Vec<&'static str>, &'static str> {
    if !has(CONFIG) {
        return Err(CONFIG);
    }
    if !PREPROCESSORS.into_iter().any(&has) {
        return Err("preprocessor_config.json or processor_config.json");
    }
    if !TOKENIZERS.into_iter().any(&has) {
        return Err("tokenizer.json or vocab.txt");
    }
    let weights = WEIGHTS.into_iter().find(|file| has(file));
    let weights = weights.ok_or("model.safetensors or pytorch_model.bin")?;
    Ok(non_weight_files().filter(|file| has(file)).chain([weights]).collect())
}

/// Returns all files that can be part of a checkpoint, except the weights.
pub(crate) fn non_weight_files() -> impl Iterator<Item = &'static str> {
    [CONFIG].into_iter().chain(PREPROCESSORS).chain(TOKENIZERS).chain(OPTIONAL)
}

/// Returns the index among the selected files, if the weights are in shards.
pub(crate) fn weight_index<'f>(selected: &[&'f str]) -> Option<&'f str> {
    selected.iter().copied().find(|file| file.ends_with(".index.json"))
}

/// Lists the files of a model for an error. If it has weights in any format, lists only those.
pub(crate) fn summarize(files: &[String]) -> String {
    let mut listed: Vec<&str> = files.iter().map(String::as_str).collect();
    let is_weights = |file: &&str| WEIGHT_EXTENSIONS.iter().any(|ending| file.ends_with(ending));
    if listed.iter().any(is_weights) {
        listed.retain(|file| is_weights(file));
    }
    let more = if listed.len() > MAX_LISTED { " and others" } else { "" };
    listed.truncate(MAX_LISTED);
    match listed.as_slice() {
        [] => "no files".to_owned(),
        listed => format!("{}{more}", listed.join(", ")),
    }
}

/// Returns the names of the shards in an index.
///
/// # Errors
/// The reason why the index is invalid.
pub(crate) fn shard_names(index: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    // The names become paths in the cache.
    let is_plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_weights = name.ends_with(".safetensors") || name.ends_with(".bin");
        is_weights && !name.starts_with('.') && name.bytes().all(allowed)
    };
    match shards.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(format!("invalid name of a shard: {name:?}")),
        None => Ok(shards.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: [&str; 4] = ["config.json", "preprocessor_config.json", "vocab.txt", "model.safetensors"];

    fn selected(files: &[&str]) -> Result<Vec<&'static str>, &'static str> {
        select(|file| files.contains(&file))
    }

    #[test]
    fn only_checkpoint_files_are_selected() {
        let more = [&COMPLETE[..], &WEIGHTS[1..], &["README.md"]].concat();
        assert_eq!(selected(&more).unwrap(), COMPLETE);
    }

    #[test]
    fn processor_config_replaces_preprocessor_config() {
        let files = COMPLETE.map(|file| file.replace("preprocessor", "processor"));
        let files = files.each_ref().map(String::as_str);
        assert_eq!(selected(&files).unwrap(), files);
        let both = [&COMPLETE[..], &files[1..2]].concat();
        assert!(selected(&both).unwrap().contains(&"processor_config.json"));
    }

    #[test]
    fn safetensors_and_single_files_are_preferred() {
        for first in 0..WEIGHTS.len() {
            let files = [&COMPLETE[..3], &WEIGHTS[first..]].concat();
            let selected = selected(&files).unwrap();
            assert_eq!(selected, [&COMPLETE[..3], &[WEIGHTS[first]]].concat());
            assert_eq!(weight_index(&selected), Some(WEIGHTS[first]).filter(|file| file.contains("index")));
        }
    }

    #[test]
    fn missing_file_is_reported() {
        for (index, missing) in COMPLETE.into_iter().enumerate() {
            let mut files = COMPLETE.to_vec();
            files.remove(index);
            let error = selected(&files).unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn unsupported_weights_are_listed() {
        let files = ["README.md", "model_base.pth", "tf_model.h5"].map(str::to_owned);
        assert_eq!(summarize(&files), "model_base.pth, tf_model.h5");
        assert_eq!(summarize(&["README.md".to_owned()]), "README.md");
        assert_eq!(summarize(&[]), "no files");
    }

    #[test]
    fn shard_names_are_unique_and_never_paths() {
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
