//! Files of candidate lists, which questions select by name.
//!
//! The server reads each file once and tokenizes it once for each model.

use std::path::Path;

use anyhow::Context as _;
use blip::Tokenizer;

use crate::{
    config::sections::model_choice::CandidateFile,
    preprocess::candidates::{CandidateLists, Candidates},
};

/// The maximum size of a file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The maximum number of candidates in a list. The best-known list has 3,128.
const MAX_CANDIDATES: usize = 1 << 15;

/// The maximum length of a candidate, in bytes.
const MAX_CANDIDATE_BYTES: usize = 256;

/// A candidate list before tokenization, with the line of each candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateTexts {
    name: String,
    file: String,
    texts: Vec<String>,
    lines: Vec<usize>,
}

/// Reads the candidate lists in `files`.
///
/// # Errors
/// The first unreadable or invalid file, with the line.
pub fn read_lists(files: &[CandidateFile]) -> anyhow::Result<Vec<CandidateTexts>> {
    files.iter().map(|CandidateFile { name, file }| read(name.to_string(), file)).collect()
}

/// Tokenizes the lists for a model.
///
/// # Errors
/// The first candidate that has no or too many tokens, with file and line.
pub fn tokenize_lists(lists: &[CandidateTexts], tokenizer: &Tokenizer) -> anyhow::Result<CandidateLists> {
    let tokenize = |list: &CandidateTexts| {
        let candidates = Candidates::new(list.texts.clone(), tokenizer).map_err(|(position, error)| {
            let line = list.lines.get(position).copied().unwrap_or_default();
            anyhow::anyhow!("{}, line {line}: {error}", list.file)
        })?;
        Ok((list.name.clone(), candidates))
    };
    lists.iter().map(tokenize).collect()
}

fn read(name: String, path: &Path) -> anyhow::Result<CandidateTexts> {
    let file = path.display().to_string();
    let unreadable = || format!("cannot read candidate list {file}");
    let content = regular_file::read_text(path, MAX_FILE_BYTES).with_context(unreadable)?;
    let (texts, lines) = parse(&file, &content)?.into_iter().unzip::<_, _, Vec<String>, _>();
    Ok(CandidateTexts { name, file, texts, lines })
}

/// Returns the candidates in the contents of a file, each with its line.
fn parse(file: &str, content: &str) -> anyhow::Result<Vec<(String, usize)>> {
    let candidates: Vec<(String, usize)> = if content.trim_start().starts_with('[') {
        let candidates: Vec<String> = serde_json::from_str(content).map_err(|error| {
            anyhow::anyhow!("{file}, line {}: invalid list of strings: {error}", error.line())
        })?;
        // The parser does not return lines. The position in the list replaces the line.
        candidates.into_iter().zip(1..).collect()
    } else {
        content
            .lines()
            .map(|line| line.trim().to_owned())
            .zip(1..)
            .filter(|(text, _)| !text.is_empty())
            .collect()
    };
    anyhow::ensure!(!candidates.is_empty(), "{file}, line 1: no candidates");
    if let Some((_, line)) = candidates.get(MAX_CANDIDATES) {
        anyhow::bail!("{file}, line {line}: too many candidates: {MAX_CANDIDATES} allowed");
    }
    for (text, line) in &candidates {
        anyhow::ensure!(!text.trim().is_empty(), "{file}, line {line}: empty candidate");
        let bytes = text.len();
        anyhow::ensure!(
            bytes <= MAX_CANDIDATE_BYTES,
            "{file}, line {line}: candidate too long: {bytes} bytes, {MAX_CANDIDATE_BYTES} bytes allowed"
        );
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use blip::{Checkpoint, ModelFiles};

    use super::*;

    fn texts(content: &str) -> anyhow::Result<Vec<String>> {
        Ok(parse("a.txt", content)?.into_iter().map(|(text, _)| text).collect())
    }

    #[test]
    fn list_has_one_candidate_per_line_or_is_json() {
        assert_eq!(texts("yes\r\n no \n\nmaybe so").unwrap(), ["yes", "no", "maybe so"]);
        assert_eq!(texts(" [\"yes\", \"no\"]\n").unwrap(), ["yes", "no"]);
    }

    #[test]
    fn invalid_list_is_reported_with_file_and_line() {
        for (content, expected) in [
            ("\n \n".to_owned(), "a.txt, line 1: no candidates"),
            ("[]".to_owned(), "a.txt, line 1: no candidates"),
            (
                format!("yes\n\n{}", "x".repeat(257)),
                "a.txt, line 3: candidate too long: 257 bytes, 256 bytes allowed",
            ),
            ("[\"yes\",\n 3]".to_owned(), "a.txt, line 2: invalid list of strings"),
            ("[\"yes\", \" \"]".to_owned(), "a.txt, line 2: empty candidate"),
            ("x\n".repeat(MAX_CANDIDATES + 1), "a.txt, line 32769: too many candidates"),
        ] {
            let error = texts(&content).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn list_is_tokenized_without_special_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("colours.txt");
        fs::write(&file, "red\ngreen circle\n").unwrap();
        let files = [CandidateFile { name: "colours".parse().unwrap(), file: file.clone() }];
        let lists = read_lists(&files).unwrap();
        let demo = ModelFiles::Folder("../../models/demo".into());
        let checkpoint = Checkpoint::open(&demo).unwrap();
        let tokenizer = checkpoint.tokenizer();
        let lists = tokenize_lists(&lists, tokenizer).unwrap();
        let list = &lists["colours"];
        assert_eq!(&*list.texts, ["red", "green circle"]);
        assert_eq!(tokenizer.decode(&list.ids[1]), "green circle");
        assert_eq!(tokenizer.encode("red").unwrap()[1..2], list.ids[0]);
        fs::remove_file(&file).unwrap();
        assert!(read_lists(&files).unwrap_err().to_string().contains("colours.txt"));
    }
}
