//! Parses the prefixes of messages: one byte of flags and four bytes of message length.

use crate::{
    error::{ErrorReason, RequestError},
    grpc::frame_parser::PREFIX_BYTES,
};

/// The parser of a body that arrives in chunks.
#[derive(Debug)]
pub(crate) struct MessageParser {
    max_messages: u64,
    max_message_bytes: usize,
    prefix: [u8; PREFIX_BYTES],
    /// The number of bytes in `prefix`.
    prefix_bytes: usize,
    /// The number of missing bytes of the last announced message.
    missing_bytes: usize,
    /// The number of announced messages.
    messages: u64,
    is_finished: bool,
}

impl MessageParser {
    pub(crate) fn new(max_messages: u64, max_message_bytes: usize) -> Self {
        Self {
            max_messages,
            max_message_bytes,
            prefix: [0; PREFIX_BYTES],
            prefix_bytes: 0,
            missing_bytes: 0,
            messages: 0,
            is_finished: false,
        }
    }

    /// Parses the next chunk.
    ///
    /// # Errors
    /// A [`RequestError`] of the call.
    pub(crate) fn advance(&mut self, mut chunk: &[u8]) -> Result<(), RequestError> {
        while let Some((first, rest)) = chunk.split_first() {
            if self.missing_bytes > 0 {
                let skipped = self.missing_bytes.min(chunk.len());
                self.missing_bytes -= skipped;
                chunk = chunk.get(skipped..).unwrap_or_default();
                continue;
            }
            if self.messages == self.max_messages {
                return Err(unreadable(format!("more than {} message", self.max_messages)));
            }
            if let Some(byte) = self.prefix.get_mut(self.prefix_bytes) {
                *byte = *first;
            }
            self.prefix_bytes += 1;
            chunk = rest;
            if self.prefix_bytes == PREFIX_BYTES {
                self.begin_message()?;
            }
        }
        Ok(())
    }

    fn begin_message(&mut self) -> Result<(), RequestError> {
        let [flags, length @ ..] = self.prefix;
        match flags {
            0 => {}
            1 => return Err(unreadable("compressed message without grpc-encoding")),
            other => return Err(unreadable(format!("invalid flags of a message: {other}, 0 expected"))),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.max_message_bytes {
            return Err(RequestError::new(ErrorReason::MessageTooLarge)
                .value(format!("{length} bytes"))
                .limit(format!("{} bytes", self.max_message_bytes)));
        }
        self.prefix_bytes = 0;
        self.missing_bytes = length;
        self.messages += 1;
        Ok(())
    }

    /// Checks that the body may end here.
    ///
    /// # Errors
    /// A [`RequestError`] of the call, once.
    pub(crate) fn finish(&mut self) -> Result<(), RequestError> {
        if std::mem::replace(&mut self.is_finished, true) {
            return Ok(());
        }
        if self.prefix_bytes > 0 {
            return Err(unreadable("the body ends within the prefix of a message"));
        }
        if self.missing_bytes > 0 {
            let missing = self.missing_bytes;
            return Err(unreadable(format!("the body ends within a message: {missing} bytes missing")));
        }
        if self.messages == 0 && self.max_messages == 1 {
            return Err(unreadable("the body has no message"));
        }
        Ok(())
    }
}

/// Returns the error of a body that breaks the protocol.
pub(crate) fn unreadable(cause: impl std::fmt::Display) -> RequestError {
    RequestError::new(ErrorReason::BodyUnreadable).cause(cause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_BYTES: usize = 100;

    /// Parses a body in chunks. Returns the reason and the message of its first error.
    fn parse(max_messages: u64, body: &[u8], chunk_bytes: usize) -> Option<(ErrorReason, String)> {
        let mut parser = MessageParser::new(max_messages, MAX_BYTES);
        let parsed = body.chunks(chunk_bytes).try_for_each(|chunk| parser.advance(chunk));
        parsed.and_then(|()| parser.finish()).err().map(|error| (error.reason(), error.message()))
    }

    fn frame(message: &[u8]) -> Vec<u8> {
        [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    #[test]
    fn faults_in_the_framing_are_errors_of_the_client() {
        let whole = frame(&[7; 10]);
        for (body, cause) in [
            (&[][..], "no message"),
            (&whole[..3], "within the prefix"),
            (&whole[..9], "within a message: 6 bytes missing"),
            (&[&whole[..], &whole].concat(), "more than 1 message"),
            (&[&whole[..], &[0]].concat(), "more than 1 message"),
            (&[1, 0, 0, 0, 0], "compressed message without grpc-encoding"),
            (&[2, 0, 0, 0, 0], "invalid flags of a message: 2"),
        ] {
            for chunk_bytes in [1, 4, 100] {
                let (reason, message) = parse(1, body, chunk_bytes).unwrap();
                assert_eq!(reason, ErrorReason::BodyUnreadable);
                assert!(message.contains(cause), "{message}");
            }
        }
        let (reason, message) = parse(1, &[0, 0, 0, 0, 101], 100).unwrap();
        assert_eq!(reason, ErrorReason::MessageTooLarge);
        assert!(message.contains("101 bytes, 100 bytes allowed"), "{message}");
    }

    #[test]
    fn error_at_the_end_is_reported_once() {
        let mut parser = MessageParser::new(1, MAX_BYTES);
        assert!(parser.finish().is_err());
        assert_eq!(parser.finish(), Ok(()));
    }

    proptest! {
        #[test]
        fn whole_messages_pass_in_any_chunks(
            lengths in proptest::collection::vec(0..MAX_BYTES, 0..6), chunk_bytes in 1_usize..50,
        ) {
            let body: Vec<u8> = lengths.iter().flat_map(|length| frame(&vec![7; *length])).collect();
            let chunk_bytes = chunk_bytes.min(body.len().max(1));
            prop_assert_eq!(parse(u64::MAX, &body, chunk_bytes), None);
            prop_assert_eq!(parse(1, &body, chunk_bytes).is_none(), lengths.len() == 1);
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(u64::MAX, &body, 7);
        }
    }
}
