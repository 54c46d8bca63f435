//! Names of tensors that more than one module reads.

pub(crate) const HEAD: &str = "text_decoder.cls.predictions";

pub(crate) const WORDS: &str = "text_decoder.bert.embeddings.word_embeddings.weight";
