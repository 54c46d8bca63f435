//! The inputs that all decoding methods of a batch share.

use crate::{
    decoder::TextDecoder, encode::encoded_batch::EncodedBatch,
    generation::stopping_criteria::StoppingCriteria, text::encoder_states::EncoderStates,
};

/// The decoder and the batch whose rows it decodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeContext<'a> {
    pub(crate) decoder: &'a TextDecoder,
    /// Encoder states of all rows of the batch, in computing order.
    pub(crate) encoder_states: &'a EncoderStates,
    pub(crate) stopping: StoppingCriteria,
    pub(crate) batch: &'a EncodedBatch<'a>,
}
