//! The protobuf codec, with the count of messages checked before any of them is built.
//!
//! A request of two-byte empty messages grows some forty times when it is decoded, so a message
//! within the byte limit could still take gigabytes. Counting walks over the bytes and builds
//! nothing.

use std::marker::PhantomData;

use prost::{
    DecodeError, Message,
    bytes::Buf as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use proto::{
    AskRequest, AskResponse, CaptionRequest, CaptionResponse, EmbedRequest, EmbedResponse, GetModelRequest,
    ListModelsRequest, ListModelsResponse, LoadModelRequest, MatchRequest, MatchResponse, Model,
    UnloadModelRequest, UnloadModelResponse,
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::error::{ErrorReason, RequestError};

/// Most images and questions, taken together, that a request is decoded with. The limits on
/// requests are lower; this one bounds what can be built before they are looked at.
pub const MAX_MESSAGES: usize = 1 << 16;

/// A message that can be refused by its bytes alone.
pub trait Bounded {
    /// # Errors
    /// A [`RequestError`] of the call if decoding these bytes would build too much.
    fn check(bytes: &[u8]) -> Result<(), RequestError>;
}

/// Length-delimited fields that are lists: where they are, and what is counted inside each of their
/// items.
#[derive(Clone, Copy, Debug)]
struct List {
    number: u32,
    inside: &'static [List],
}

impl List {
    const fn of(number: u32) -> Self {
        Self { number, inside: &[] }
    }

    /// Items of these lists in the message in `bytes`. What is malformed is reported by the
    /// decoder, which gets no further than the count does.
    fn count(lists: &[Self], bytes: &[u8]) -> usize {
        let mut items = 0;
        for list in lists {
            let _ = each_field(bytes, list.number, &mut |item| {
                items += 1 + Self::count(list.inside, item);
                Ok(())
            });
        }
        items
    }
}

/// `inputs`, each with its list of texts in field 2.
const INPUTS_WITH_TEXTS: &[List] = &[List { number: 1, inside: &[List::of(2)] }];

macro_rules! bounded {
    ($($request:ty: $lists:expr, $field:literal;)*) => {$(
        impl Bounded for $request {
            fn check(bytes: &[u8]) -> Result<(), RequestError> {
                const LISTS: &[List] = $lists;
                let items = List::count(LISTS, bytes);
                if items > MAX_MESSAGES {
                    return Err(RequestError::new(ErrorReason::TooManyQuestions)
                        .field($field)
                        .value(format!("{items} images and texts"))
                        .limit(format!("{MAX_MESSAGES} images and texts")));
                }
                Ok(())
            }
        }
    )*};
}

bounded! {
    // A question is a message, with its candidates in field 2.
    AskRequest: &[List { number: 1, inside: &[List { number: 2, inside: &[List::of(2)] }] }], "inputs";
    CaptionRequest: INPUTS_WITH_TEXTS, "inputs";
    MatchRequest: INPUTS_WITH_TEXTS, "inputs";
    EmbedRequest: &[List::of(1), List::of(2)], "images";
}

macro_rules! unbounded {
    ($($message:ty),* $(,)?) => {$(
        impl Bounded for $message {
            fn check(_: &[u8]) -> Result<(), RequestError> {
                Ok(())
            }
        }
    )*};
}

// What holds no list; and what this side sends, which it may read as a client.
unbounded! {
    AskResponse, CaptionResponse, MatchResponse, EmbedResponse, ListModelsRequest, ListModelsResponse, GetModelRequest,
    LoadModelRequest, UnloadModelRequest, UnloadModelResponse, Model,
}

/// Calls `visit` with the bytes of each length-delimited field `number` of the message in `bytes`.
fn each_field(
    mut bytes: &[u8],
    number: u32,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while bytes.has_remaining() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        if tag != number || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
        // A field that runs past the end is the decoder's to report, too.
        let Some((field, rest)) = bytes.split_at_checked(length) else { return Ok(()) };
        visit(field)?;
        bytes = rest;
    }
    Ok(())
}

/// [`ProstCodec`] with [`Bounded::check`] ahead of decoding.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder { inner: ProstCodec::<T, U>::default().decoder() }
    }
}

/// The decoder of [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U> {
    inner: ProstDecoder<U>,
}

impl<U: Message + Default + Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The buffer is one piece: tonic decodes out of one `BytesMut`.
        U::check(source.chunk())?;
        self.inner.decode(source)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::{ImageQuestions, Question};

    use super::*;

    fn request(inputs: usize, questions: usize) -> Vec<u8> {
        let input = ImageQuestions { image: None, questions: vec![Question::default(); questions] };
        AskRequest { inputs: vec![input; inputs], ..AskRequest::default() }.encode_to_vec()
    }

    #[test]
    fn images_and_questions_are_counted_together() {
        assert_eq!(AskRequest::check(&request(0, 0)), Ok(()));
        assert_eq!(AskRequest::check(&request(MAX_MESSAGES, 0)), Ok(()));
        assert_eq!(AskRequest::check(&request(1 << 8, (1 << 8) - 1)), Ok(()));
        for bytes in [request(MAX_MESSAGES + 1, 0), request(1 << 8, 1 << 8)] {
            assert_eq!(AskRequest::check(&bytes).unwrap_err().reason(), ErrorReason::TooManyQuestions);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_counted(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = AskRequest::check(&bytes);
        }

        #[test]
        fn what_is_decoded_was_counted(bytes in proptest::collection::vec(prop_oneof![0x08_u8..0x14, 0_u8..4], 0..60)) {
            let mut counted = 0;
            let whole = each_field(&bytes, 1, &mut |input| {
                counted += 1;
                each_field(input, 2, &mut |_| { counted += 1; Ok(()) })
            });
            if let Ok(request) = AskRequest::decode(bytes.as_slice()) {
                prop_assert!(whole.is_ok());
                let built: usize = request.inputs.iter().map(|input| 1 + input.questions.len()).sum();
                prop_assert_eq!(built, counted);
            }
        }
    }
}
