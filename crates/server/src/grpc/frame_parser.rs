//! Finds the length prefixes of gRPC messages while they arrive.

use crate::error::RequestError;

/// The length of a prefix: one byte of flags and four bytes of message length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// A part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramePart {
    /// The next message begins, and has this number of bytes.
    Announced(usize),
    /// The next bytes of this message.
    Data(usize),
}

/// The parser of a body that arrives in chunks.
#[derive(Debug, Default)]
pub(crate) struct FrameParser {
    prefix: [u8; PREFIX_BYTES],
    /// The number of bytes in `prefix`.
    prefix_bytes: usize,
    /// The number of missing bytes of the last announced message.
    missing_bytes: usize,
    /// The number of announced messages.
    messages: u64,
}

impl FrameParser {
    /// Returns whether the body is incomplete: before the first message and within a message.
    /// Between messages, a stream may pause.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.messages == 0 || self.prefix_bytes > 0 || self.missing_bytes > 0
    }

    /// Parses the next chunk. Calls `visit` with its parts, and returns how many bytes at its end
    /// belong to a message that is incomplete.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub(crate) fn advance(
        &mut self,
        mut chunk: &[u8],
        visit: &mut dyn FnMut(FramePart) -> Result<(), RequestError>,
    ) -> Result<usize, RequestError> {
        let mut incomplete = 0;
        while let Some((first, rest)) = chunk.split_first() {
            if self.missing_bytes > 0 {
                let bytes = self.missing_bytes.min(chunk.len());
                self.missing_bytes -= bytes;
                incomplete = if self.missing_bytes == 0 { 0 } else { incomplete + bytes };
                chunk = chunk.get(bytes..).unwrap_or_default();
                visit(FramePart::Data(bytes))?;
                continue;
            }
            if let Some(byte) = self.prefix.get_mut(self.prefix_bytes) {
                *byte = *first;
            }
            self.prefix_bytes += 1;
            incomplete += 1;
            chunk = rest;
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.prefix_bytes = 0;
                self.messages += 1;
                self.missing_bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if self.missing_bytes == 0 {
                    incomplete = 0;
                }
                visit(FramePart::Announced(self.missing_bytes))?;
            }
        }
        Ok(incomplete)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_message_is_visited_for_any_chunking(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            chunk_bytes in 1_usize..50,
        ) {
            let mut body = Vec::new();
            for message in &messages {
                body.push(0);
                body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                body.extend(message);
            }
            let (mut announced, mut received) = (Vec::new(), Vec::new());
            let mut parser = FrameParser::default();
            let ends: Vec<usize> = messages
                .iter()
                .scan(0, |end, message| { *end += PREFIX_BYTES + message.len(); Some(*end) })
                .collect();
            let mut position = 0;
            for chunk in body.chunks(chunk_bytes) {
                let visit = &mut |part| {
                    match part {
                        FramePart::Announced(bytes) => {
                            announced.push(bytes);
                            received.push(0);
                        }
                        FramePart::Data(bytes) => *received.last_mut().unwrap() += bytes,
                    }
                    Ok(())
                };
                let incomplete = parser.advance(chunk, visit).unwrap();
                let begin = position;
                position += chunk.len();
                let last_end = ends.iter().copied().filter(|end| *end <= position).max().unwrap_or(0);
                prop_assert_eq!(incomplete, position - last_end.max(begin));
            }
            let lengths: Vec<usize> = messages.iter().map(Vec::len).collect();
            prop_assert_eq!(&announced, &lengths);
            prop_assert_eq!(&received, &lengths);
        }
    }
}
