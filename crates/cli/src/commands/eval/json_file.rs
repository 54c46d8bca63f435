//! JSON files: data sets and results.

use std::{io::BufReader, io::Write as _, path::Path};

use anyhow::Context as _;
use bulk::{Location, open_stored};
use serde::{Serialize, de::DeserializeOwned};

/// Reads a JSON file, or an object by its URL. An error names the file and the field.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let location = Location::from(path);
    let file = open_stored(&location).with_context(|| format!("cannot read {location}"))?;
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(file));
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .with_context(|| format!("invalid content of {location}"))?;
    deserializer.end().with_context(|| format!("invalid content of {location}"))?;
    Ok(value)
}

/// Writes a JSON file. An error leaves no partial file.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, value)?;
        file.flush()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct List {
        #[expect(dead_code, reason = "only its errors matter")]
        items: Vec<u64>,
    }

    #[test]
    fn error_names_file_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.json");
        for (content, expected) in [
            ("{\"items\": [1, \"x\"]}", "items[1]: invalid type: string \"x\", expected u64"),
            ("{\"things\": []}", "missing field `items`"),
            ("{\"items\": [1,", "EOF while parsing"),
            ("{\"items\": []} {}", "trailing characters"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = format!("{:#}", read_json::<List>(&path).unwrap_err());
            assert!(error.contains("list.json: ") && error.contains(expected), "{error}");
        }
    }
}
