//! HTTP/2 connections to the listeners of gRPC and HTTP.
//!
//! The first byte of an input chooses the listener, and whether the rest is raw bytes after the
//! preface or a list of frames. A frame is `[type, flags, stream, length]` with its payload. These
//! are special:
//!
//! - A length of at least [`ZEROS`] is that of zeros, which the input does not contain.
//! - The type `H` is a HEADERS frame whose payload is lines of `name: value`.
//! - The type `R` is raw bytes instead of a frame.
//! - The type `W` waits for as many seconds as its flags state.

use std::time::Duration;

use super::server::{Port, Step, exchange};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bit of the first byte that selects the listener of HTTP.
const HTTP: u8 = 1;
/// The bit of the first byte that selects raw bytes.
const RAW: u8 = 2;

/// The first length of zeros, which have 1 KiB or more.
const ZEROS: u8 = 0xf0;

const HEADERS: u8 = 1;

/// The maximum length of a name or a value in a header. Longer ones have longer prefixes.
const MAX_TEXT_BYTES: usize = 126;

/// Sends frames. The connection ends, and no response is an internal error.
pub fn http2_frames(bytes: &[u8]) -> bool {
    let Some((mode, bytes)) = bytes.split_first() else { return false };
    let port = if mode & HTTP == 0 { Port::Grpc } else { Port::Http };
    let mut steps = vec![Step::Send(PREFACE.to_vec())];
    if mode & RAW == 0 {
        steps.extend(frames(bytes));
    } else {
        steps.push(Step::Send(bytes.to_vec()));
    }
    exchange(port, steps).successes > 0
}

fn frames(mut bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = bytes {
        let payload;
        (payload, bytes) = match length.checked_sub(ZEROS) {
            Some(more) => (vec![0; (usize::from(more) + 1) << 10], rest),
            None => {
                let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
                (payload.to_vec(), rest)
            }
        };
        steps.push(match kind {
            b'H' => Step::Send(frame(HEADERS, *flags, *stream, &header_block(&payload))),
            b'R' => Step::Send(payload),
            b'W' => Step::Wait(Duration::from_secs(u64::from(*flags))),
            kind => Step::Send(frame(*kind, *flags, *stream, &payload)),
        });
    }
    steps
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &[kind, flags], &u32::from(stream).to_be_bytes(), payload].concat()
}

/// Encodes lines of `name: value` as literals without an index.
fn header_block(lines: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let colon = line.windows(2).position(|pair| pair == b": ").unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        block.push(0);
        for text in [name, value.get(2..).unwrap_or_default()] {
            let text = text.get(..MAX_TEXT_BYTES).unwrap_or(text);
            block.push(u8::try_from(text.len()).unwrap_or_default());
            block.extend(text);
        }
    }
    block
}
