//! Tests of tokenization.

use std::collections::HashMap;

use super::{settings::TOKENIZER_CONFIG, sources::VOCABULARY, *};
use crate::checkpoint::config::{Architecture, text::TextConfig};

const VOCAB: &[u8] = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhow\nmany\ndog\n##s\n?\ncafe\n";

fn config() -> TextConfig {
    TextConfig {
        vocab_size: 13,
        sep_token_id: 3,
        bos_token_id: 11,
        max_position_embeddings: 8,
        ..Default::default()
    }
}

fn open(files: &'static [(&'static str, &'static [u8])]) -> Result<Tokenizer, LoadError> {
    let config = BlipConfig { text: config(), ..BlipConfig::default() };
    Tokenizer::open(&ModelFiles::Embedded(files), &config, Conventions::Hf)
}

fn original(architecture: Architecture) -> Result<Tokenizer, LoadError> {
    let stated_architectures = vec![architecture.class().to_owned()];
    let config = BlipConfig { text: config(), stated_architectures, ..BlipConfig::default() };
    Tokenizer::open(&ModelFiles::Embedded(&[(VOCABULARY, VOCAB)]), &config, Conventions::Salesforce)
}

#[test]
fn vocabulary_alone_builds_bert_tokenizer() {
    let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
    assert_eq!(tokenizer.encode("How many  dogs?").unwrap(), [2, 5, 6, 7, 8, 9, 3]);
    assert_eq!(
        tokenizer.encode("CAFÉ cat").unwrap(),
        [2, 10, 1, 3],
        "accents are stripped, unknown words are [UNK]"
    );
    assert_eq!(tokenizer.encode("").unwrap(), [2, 3]);
}

#[test]
fn prompt_begins_with_start_token_and_bare_text_does_not() {
    let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
    assert_eq!(tokenizer.encode_prompt("how many").unwrap(), [11, 5, 6]);
    assert_eq!(tokenizer.encode_prompt("").unwrap(), [11]);
    assert_eq!(tokenizer.encode_bare("how many").unwrap(), [5, 6]);
    assert!(tokenizer.encode_bare(" ").unwrap().is_empty());
}

#[test]
fn decoded_text_has_no_control_tokens_and_joined_pieces() {
    let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
    assert_eq!(tokenizer.decode(&[11, 5, 6, 7, 8, 3, 0, 0]), "how many dogs");
    assert_eq!(tokenizer.decode(&[11, 3]), "");
}

#[test]
fn caption_begins_with_prompt_and_start_token_has_a_position() {
    let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
    assert_eq!(tokenizer.decode_caption(&[11, 5, 6], &[7, 8, 3]), "how many dogs");
    assert!(
        tokenizer.encode_prompt("how how how how how how how how").is_err(),
        "the start token has a position, too"
    );
}

#[test]
fn original_question_is_normalized_and_begins_with_enc() {
    let tokenizer = original(Architecture::QuestionAnswering).unwrap();
    assert_eq!(tokenizer.encode("How many: (dogs)?!").unwrap(), [12, 5, 6, 7, 8, 9, 3]);
    let tokenizer = original(Architecture::Retrieval).unwrap();
    assert_eq!(tokenizer.encode("How.many").unwrap(), [2, 5, 6, 3], "embeddings begin with [CLS]");
}

#[test]
fn original_prompt_is_removed_from_captions() {
    let tokenizer = original(Architecture::Captioning).unwrap();
    let prompt = tokenizer.encode_prompt("").unwrap();
    assert_eq!(prompt, [11, 1, 1, 1], "a picture of, in a vocabulary without these words");
    assert_eq!(tokenizer.decode_caption(&prompt, &[7, 8, 3]), "dogs");
    assert_eq!(tokenizer.decode_caption(&[11, 5], &[6, 3]), "many");
}

#[test]
fn question_longer_than_positions_is_rejected_with_length() {
    let tokenizer = open(&[(VOCABULARY, VOCAB)]).unwrap();
    assert_eq!(tokenizer.encode("how how how how how how").unwrap().len(), 8);
    let error = tokenizer.encode("how how how how how how how").unwrap_err();
    assert_eq!(error, TokenizeError::TooLong { tokens: 9, limit: 8 });
}

#[test]
fn vocabulary_that_does_not_fit_the_model_is_rejected() {
    assert!(open(&[]).unwrap_err().to_string().contains("tokenizer.json or vocab.txt"));
    let error = open(&[(VOCABULARY, b"[PAD]\n[UNK]\n[CLS]\nx\n[SEP]\n")]).unwrap_err().to_string();
    assert!(error.contains("sep_token_id"), "{error}");
    let error = open(&[(VOCABULARY, b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\nd\ne\nf\ng\nh\ni\nj\n")]);
    assert!(error.unwrap_err().to_string().contains("vocab_size"));
}

/// Files of a tokenizer, with results of `transformers`.
#[derive(serde::Deserialize)]
struct GoldenFile {
    vocab_size: i64,
    cases: HashMap<String, GoldenCase>,
}

#[derive(serde::Deserialize)]
struct GoldenCase {
    files: HashMap<String, String>,
    texts: HashMap<String, Vec<i64>>,
    decoded: Vec<(Vec<i64>, String)>,
}

/// Opens a tokenizer of files in a folder.
fn open_folder(files: &HashMap<String, String>, vocab_size: i64) -> Result<Tokenizer, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let text = TextConfig { vocab_size, sep_token_id: 3, bos_token_id: 0, ..TextConfig::default() };
    let config = BlipConfig { text, ..BlipConfig::default() };
    Tokenizer::open(&ModelFiles::Folder(folder.path().to_owned()), &config, Conventions::Hf)
}

/// `tests/reference/generate/tokenizer_goldens.py` writes the file.
#[test]
fn every_form_of_files_gives_ids_of_reference() {
    let golden: GoldenFile = serde_json::from_str(include_str!("../../../tests/tokenizers.json")).unwrap();
    for (name, GoldenCase { files, texts, decoded }) in golden.cases {
        let tokenizer = open_folder(&files, golden.vocab_size).unwrap();
        for (text, ids) in texts {
            assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
        }
        for (ids, text) in decoded {
            assert_eq!(tokenizer.decode(&ids), text, "{name}: {ids:?}");
        }
    }
}

fn vocabulary_with(files: &[(&str, &str)]) -> HashMap<String, String> {
    let vocabulary = [(VOCABULARY, "[PAD]\n[UNK]\n[CLS]\n[SEP]\nred\n")];
    vocabulary.iter().chain(files).map(|(name, content)| (name.to_string(), content.to_string())).collect()
}

#[test]
fn added_token_with_other_id_is_rejected() {
    let files = vocabulary_with(&[("added_tokens.json", r#"{"[DEC]": 5, "[ENC]": 7}"#)]);
    let error = open_folder(&files, 10).unwrap_err().to_string();
    assert_eq!(error, "added_tokens.json is not valid: id of added token \"[ENC]\" is 7, expected 6");
}

#[test]
fn special_token_without_embedding_is_left_out() {
    let tokenizer = open_folder(&vocabulary_with(&[]), 5).unwrap();
    assert!(!tokenizer.encode("[MASK]").unwrap().contains(&5));
    assert_eq!(open_folder(&vocabulary_with(&[]), 6).unwrap().encode("[MASK]").unwrap(), [2, 5, 3]);
}

#[test]
fn special_tokens_have_names_of_the_settings() {
    let vocabulary = "<pad>\n<unk>\n<s>\n</s>\nred\n";
    let config = r#"{"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>",
        "sep_token": {"content": "</s>", "lstrip": false}, "mask_token": null, "add_bos_token": true}"#;
    let files = [(VOCABULARY, vocabulary), ("tokenizer_config.json", config)];
    let files = files.map(|(name, content)| (name.to_owned(), content.to_owned())).into();
    let tokenizer = open_folder(&files, 5).unwrap();
    assert_eq!(tokenizer.encode("red </s> blue").unwrap(), [2, 4, 3, 1, 3]);
}

#[test]
fn malformed_settings_are_rejected_by_file() {
    for (name, content, expected) in [
        ("tokenizer_config.json", r#"{"strip_accents": "no"}"#, "tokenizer_config.json is not valid"),
        ("tokenizer_config.json", r#"{"cls_token": 3}"#, "tokenizer_config.json is not valid: cls_token"),
        ("added_tokens.json", r#"["x"]"#, "added_tokens.json is not valid"),
        ("special_tokens_map.json", "{", "special_tokens_map.json is not valid"),
    ] {
        let error = open_folder(&vocabulary_with(&[(name, content)]), 10).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

/// Settings with which the whole `tokenizer.json` is used.
const GENERAL: (&str, &[u8]) = (TOKENIZER_CONFIG, br#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#);

#[test]
fn panic_of_the_library_is_an_error_of_the_text() {
    let tokenizer = open(&[
        GENERAL,
        (
            TOKENIZER,
            br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
                "normalizer": {"type": "Precompiled", "precompiled_charsmap": "CAAAAAECAAAABAAAYQBiAA=="},
                "pre_tokenizer": null, "post_processor": null,
                "decoder": {"type": "Strip", "content": " ", "start": 0, "stop": 9},
                "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}}"#,
        ),
    ])
    .unwrap();
    let error = tokenizer.encode("what?").unwrap_err();
    assert_eq!(error.to_string(), "tokenizer failed: a component in tokenizer.json is malformed");
    assert_eq!(tokenizer.decode(&[1]), "");
}

#[test]
fn special_token_beyond_the_vocabulary_is_rejected() {
    let error = open(&[
        GENERAL,
        (
            TOKENIZER,
            br#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
                "normalizer": null, "pre_tokenizer": null, "decoder": null,
                "post_processor": {"type": "BertProcessing", "sep": ["?", 13], "cls": ["?", 0]},
                "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}}"#,
        ),
    ])
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "tokenizer.json is not valid: id of a special token is 13, expected below vocab_size 13"
    );
}
