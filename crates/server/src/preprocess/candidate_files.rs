//! Lists of answers that questions may name instead of spelling their candidates out. They are read once, and turned into
//! token ids once for each model.

use std::{fs, path::Path};

use anyhow::Context as _;
use blip::Tokenizer;

use crate::{
    config::sections::model_choice::CandidateFile,
    preprocess::candidates::{CandidateLists, Candidates},
};

/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Answers of a list; the best-known one has 3,128.
const MAX_CANDIDATES: usize = 1 << 15;

/// Longest answer, in bytes.
const MAX_CANDIDATE_BYTES: usize = 256;

/// A list as it was read: its name, its file, and its answers with their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateTexts {
    name: String,
    file: String,
    texts: Vec<String>,
    lines: Vec<usize>,
}

/// Reads the lists.
///
/// # Errors
/// The first file that cannot be read or is not as it should be, with the line.
pub fn read_lists(files: &[CandidateFile]) -> anyhow::Result<Vec<CandidateTexts>> {
    files.iter().map(|CandidateFile { name, file }| read(name.to_string(), file)).collect()
}

/// The lists in the words of a model, by their names.
///
/// # Errors
/// The first answer that the model has no tokens for, or too many, with file and line.
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
    let unreadable = || format!("cannot read the list of candidates {file}");
    let bytes = fs::metadata(path).with_context(unreadable)?.len();
    anyhow::ensure!(
        bytes <= MAX_FILE_BYTES,
        "{file} is {bytes} bytes long, the limit is {MAX_FILE_BYTES} bytes"
    );
    let content = fs::read_to_string(path).with_context(unreadable)?;
    let (texts, lines) = parse(&file, &content)?.into_iter().unzip::<_, _, Vec<String>, _>();
    Ok(CandidateTexts { name, file, texts, lines })
}

/// The answers in a file's text, each with its line.
fn parse(file: &str, content: &str) -> anyhow::Result<Vec<(String, usize)>> {
    let answers: Vec<(String, usize)> = if content.trim_start().starts_with('[') {
        let answers: Vec<String> = serde_json::from_str(content).map_err(|error| {
            anyhow::anyhow!("{file}, line {}: not a list of texts: {error}", error.line())
        })?;
        // JSON keeps no lines: the place in the list stands for it.
        answers.into_iter().zip(1..).collect()
    } else {
        content
            .lines()
            .map(|line| line.trim().to_owned())
            .zip(1..)
            .filter(|(text, _)| !text.is_empty())
            .collect()
    };
    anyhow::ensure!(!answers.is_empty(), "{file}, line 1: there is no answer in it");
    if let Some((_, line)) = answers.get(MAX_CANDIDATES) {
        anyhow::bail!("{file}, line {line}: an answer too many, the limit is {MAX_CANDIDATES}");
    }
    for (text, line) in &answers {
        anyhow::ensure!(!text.trim().is_empty(), "{file}, line {line}: the answer is empty");
        let bytes = text.len();
        anyhow::ensure!(
            bytes <= MAX_CANDIDATE_BYTES,
            "{file}, line {line}: the answer is {bytes} bytes long, the limit is {MAX_CANDIDATE_BYTES} bytes"
        );
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use blip::{Checkpoint, ModelFiles};

    use super::*;

    fn texts(content: &str) -> anyhow::Result<Vec<String>> {
        Ok(parse("a.txt", content)?.into_iter().map(|(text, _)| text).collect())
    }

    #[test]
    fn a_list_is_one_answer_a_line_or_json() {
        assert_eq!(texts("yes\r\n no \n\nmaybe so").unwrap(), ["yes", "no", "maybe so"]);
        assert_eq!(texts(" [\"yes\", \"no\"]\n").unwrap(), ["yes", "no"]);
    }

    #[test]
    fn what_is_wrong_is_told_by_file_and_line() {
        for (content, told) in [
            ("\n \n".to_owned(), "a.txt, line 1: there is no answer"),
            ("[]".to_owned(), "a.txt, line 1: there is no answer"),
            (
                format!("yes\n\n{}", "x".repeat(257)),
                "a.txt, line 3: the answer is 257 bytes long, the limit is 256",
            ),
            ("[\"yes\",\n 3]".to_owned(), "a.txt, line 2: not a list of texts"),
            ("[\"yes\", \" \"]".to_owned(), "a.txt, line 2: the answer is empty"),
            ("x\n".repeat(MAX_CANDIDATES + 1), "a.txt, line 32769: an answer too many"),
        ] {
            let error = texts(&content).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }

    #[test]
    fn a_list_is_tokenized_as_the_model_tokenizes_without_its_ends() {
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
