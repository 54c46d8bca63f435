//! Tensor names that more than one module uses.

/// Head of the text decoder.
pub(crate) const HEAD: &str = "text_decoder.cls.predictions";

/// Word embeddings of the text decoder.
pub(crate) const WORDS: &str = "text_decoder.bert.embeddings.word_embeddings.weight";
