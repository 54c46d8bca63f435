//! The protobuf codec, with a limit on the number of parts of a request, checked before decoding.
//!
//! A request of empty messages of two bytes needs about forty times as much memory decoded as
//! encoded. A message within the byte limit could therefore need gigabytes. Counting reads the
//! bytes and allocates nothing.

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
    inference::{
        ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest, ServerMetadataRequest,
        ServerReadyRequest,
    },
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_health::pb::HealthCheckRequest;
use tonic_prost::{ProstCodec, ProstEncoder};
use tonic_reflection::pb::v1::ServerReflectionRequest;

use crate::error::{ErrorReason, RequestError};

/// The maximum number of images and texts together in a request. It bounds the memory of decoding.
/// The limits on requests are lower and checked later.
pub const MAX_MESSAGES: usize = 1 << 16;

/// A message whose number of parts is checked before decoding.
pub trait BoundedMessage {
    /// Counts the parts of the message in `bytes`.
    ///
    /// # Errors
    /// A [`RequestError`] of the call if the message has more than [`MAX_MESSAGES`] parts.
    fn check(bytes: &[u8]) -> Result<(), RequestError>;
}

/// A repeated length-delimited field, with the repeated fields inside each of its items.
#[derive(Clone, Copy, Debug)]
struct ListField {
    number: u32,
    inside: &'static [ListField],
}

impl ListField {
    const fn of(number: u32) -> Self {
        Self { number, inside: &[] }
    }

    /// Returns the number of items of `lists` in the message in `bytes`. It ignores malformed
    /// fields, which the decoder reports.
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

/// Field 1, `inputs`. Each input has its texts in field 2.
const INPUTS_WITH_TEXTS: &[ListField] = &[ListField { number: 1, inside: &[ListField::of(2)] }];

macro_rules! bounded {
    ($($request:ty: $lists:expr, $field:literal;)*) => {$(
        impl BoundedMessage for $request {
            fn check(bytes: &[u8]) -> Result<(), RequestError> {
                const LISTS: &[ListField] = $lists;
                let items = ListField::count(LISTS, bytes);
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
    AskRequest: &[ListField {
        number: 1,
        inside: &[ListField { number: 2, inside: &[ListField::of(2)] }],
    }], "inputs";
    CaptionRequest: INPUTS_WITH_TEXTS, "inputs";
    MatchRequest: INPUTS_WITH_TEXTS, "inputs";
    EmbedRequest: &[ListField::of(1), ListField::of(2)], "images";
}

macro_rules! unbounded {
    ($($message:ty),* $(,)?) => {$(
        impl BoundedMessage for $message {
            fn check(_: &[u8]) -> Result<(), RequestError> {
                Ok(())
            }
        }
    )*};
}

// Messages without lists, and responses, which only clients decode.
unbounded! {
    AskResponse, CaptionResponse, MatchResponse, EmbedResponse, ListModelsRequest, ListModelsResponse, GetModelRequest,
    LoadModelRequest, UnloadModelRequest, UnloadModelResponse, Model, HealthCheckRequest, ServerReflectionRequest,
    ServerLiveRequest, ServerReadyRequest, ModelReadyRequest, ServerMetadataRequest, ModelMetadataRequest,
}

impl BoundedMessage for ModelInferRequest {
    fn check(bytes: &[u8]) -> Result<(), RequestError> {
        /// Parameters and the requested outputs with theirs, raw buffers, and inputs. An input has
        /// parameters, and contents whose field 8 has the elements of a BYTES tensor.
        const LISTS: &[ListField] = &[
            ListField::of(4),
            ListField { number: 6, inside: &[ListField::of(2)] },
            ListField::of(7),
            ListField {
                number: 5,
                inside: &[ListField::of(4), ListField { number: 5, inside: &[ListField::of(8)] }],
            },
        ];
        let mut parts = ListField::count(LISTS, bytes);
        // The other contents and the shape are numbers, packed or not. Each has at least one byte.
        let _ = each_field(bytes, 5, &mut |input| {
            parts += numbers(input, 3)?;
            each_field(input, 5, &mut |contents| {
                for number in 1..8 {
                    parts += numbers(contents, number)?;
                }
                Ok(())
            })
        });
        if parts > MAX_MESSAGES {
            return Err(RequestError::new(ErrorReason::TooManyQuestions)
                .field("inputs")
                .value(format!("{parts} elements"))
                .limit(format!("{MAX_MESSAGES} elements")));
        }
        Ok(())
    }
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
        // The decoder reports a field that is longer than the message.
        let Some((field, rest)) = bytes.split_at_checked(length) else { return Ok(()) };
        visit(field)?;
        bytes = rest;
    }
    Ok(())
}

/// Returns the maximum of numbers in the fields `number` of the message in `bytes`, packed or not.
fn numbers(mut bytes: &[u8], number: u32) -> Result<usize, DecodeError> {
    let mut total = 0_usize;
    while bytes.has_remaining() {
        let (tag, wire_type) = decode_key(&mut bytes)?;
        let mut field = bytes;
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
        if tag == number {
            let packed = wire_type == WireType::LengthDelimited;
            let count = if packed { decode_varint(&mut field)? } else { 1 };
            total = total.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
        }
    }
    Ok(total)
}

/// [`ProstCodec`] that calls [`BoundedMessage::check`] before decoding. Bytes that are no message
/// are an error of the client.
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
    U: Message + Default + BoundedMessage + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// The decoder of [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default + BoundedMessage> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The chunk is the whole message, because tonic decodes from one `BytesMut`.
        U::check(source.chunk())?;
        let unreadable = |error: DecodeError| RequestError::new(ErrorReason::BodyUnreadable).cause(error);
        Ok(Some(U::decode(source).map_err(unreadable)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::{
        ImageQuestions, Question,
        inference::{InferTensorContents, model_infer_request::InferInputTensor},
    };

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

    #[test]
    fn elements_of_tensors_are_counted() {
        let request = |contents: InferTensorContents, shape: usize| {
            let contents = Some(contents);
            let input = InferInputTensor { shape: vec![1; shape], contents, ..Default::default() };
            let inputs = vec![input];
            ModelInferRequest::check(&ModelInferRequest { inputs, ..Default::default() }.encode_to_vec())
        };
        let texts = |count: usize| InferTensorContents {
            bytes_contents: vec![bytes::Bytes::new(); count],
            ..Default::default()
        };
        let numbers = |count| InferTensorContents { int64_contents: vec![1; count], ..Default::default() };
        // The input and its contents count as one each.
        let most = MAX_MESSAGES - 2;
        assert_eq!((request(texts(most), 0), request(numbers(most), 0)), (Ok(()), Ok(())));
        assert_eq!(request(texts(0), most), Ok(()));
        for excess in
            [request(texts(most + 1), 0), request(numbers(most + 1), 0), request(texts(0), most + 1)]
        {
            assert_eq!(excess.unwrap_err().reason(), ErrorReason::TooManyQuestions);
        }
        // A shape that is not packed: field 3 of an input, as single numbers.
        let unpacked = [0x18, 0].repeat(most + 2);
        let mut bytes = vec![0x2a];
        prost::encoding::encode_varint(unpacked.len() as u64, &mut bytes);
        bytes.extend(unpacked);
        assert!(ModelInferRequest::decode(bytes.as_slice()).unwrap().inputs[0].shape.len() > most);
        assert!(ModelInferRequest::check(&bytes).is_err());
        let raw_input_contents = vec![bytes::Bytes::new(); MAX_MESSAGES + 1];
        let raw = ModelInferRequest { raw_input_contents, ..Default::default() }.encode_to_vec();
        assert!(ModelInferRequest::check(&raw).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_counted_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = AskRequest::check(&bytes);
            let _ = ModelInferRequest::check(&bytes);
        }

        #[test]
        fn count_equals_the_number_of_decoded_parts(bytes in proptest::collection::vec(prop_oneof![0x08_u8..0x14, 0_u8..4], 0..60)) {
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
