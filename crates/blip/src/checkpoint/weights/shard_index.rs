//! The index of a checkpoint that has several weight files.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use crate::error::LoadError;

/// Returns the distinct shards that the index `file` names.
///
/// # Errors
/// [`LoadError::Invalid`] if the index is malformed, or a shard is outside the model folder.
pub(super) fn shard_names(file: &str, json: &[u8]) -> Result<BTreeSet<String>, LoadError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let index: Index = serde_json::from_slice(json).map_err(|error| LoadError::invalid(file, error))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    match names.iter().find(|name| name.contains(['/', '\\'])) {
        Some(name) => Err(LoadError::invalid(file, format!("shard is {name:?}, expected a plain file name"))),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_is_named_once() {
        let index = br#"{"weight_map": {"a": "2.bin", "b": "1.bin", "c": "2.bin"}}"#;
        assert!(shard_names("index", index).unwrap().iter().eq(["1.bin", "2.bin"]));
    }

    #[test]
    fn shard_outside_the_folder_is_rejected() {
        let error = shard_names("index", br#"{"weight_map": {"a": "../secret"}}"#).unwrap_err().to_string();
        assert!(error.starts_with("index is not valid") && error.contains("../secret"), "{error}");
    }
}
