//! The messages between the server and a worker process.
//!
//! A message is a packet: its kind, a number, and the bytes of a header. Bytes of input and output
//! are in the shared memory.

use std::{io, os::fd::AsFd};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

/// The exit code of a worker process whose allocation failed.
pub(crate) const EXIT_OUT_OF_MEMORY: i32 = 77;

/// The maximum length of a header, in bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 4096;

const PREFIX_BYTES: usize = 9;

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the worker, once: its limit on memory.
    Start,
    /// To the worker: handle an input of this length.
    Request,
    /// To the worker: whether the memory is reserved, 1 or 0.
    Reserved,
    /// From the worker, once: it is confined, to this degree.
    Ready,
    /// From the worker: reserve so much memory.
    Reserve,
    /// From the worker: the output has this length.
    Response,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Start, Self::Request, Self::Reserved, Self::Ready, Self::Reserve, Self::Response];
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) header: Vec<u8>,
}

/// Sends a message. Its header must not be longer than [`MAX_HEADER_BYTES`].
pub(crate) fn send_message(socket: impl AsFd, kind: Kind, number: u64, header: &[u8]) -> io::Result<()> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut packet = Vec::with_capacity(PREFIX_BYTES + header.len());
    packet.push(kind as u8);
    packet.extend(number.to_le_bytes());
    packet.extend(header);
    rustix::io::retry_on_intr(|| send(&socket, &packet, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives a message, and waits for it. Returns `None` if the other side has closed the socket.
///
/// The server does not trust its workers, so a malformed message is an error.
pub(crate) fn receive_message(socket: impl AsFd) -> io::Result<Option<Message>> {
    let mut packet = [0_u8; PREFIX_BYTES + MAX_HEADER_BYTES];
    let received = rustix::io::retry_on_intr(|| recv(&socket, &mut packet, RecvFlags::TRUNC));
    let bytes = match received {
        Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(None),
        Ok((_, bytes)) => bytes,
        Err(error) => return Err(error.into()),
    };
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let packet = packet.get(..bytes).ok_or_else(malformed)?;
    let (kind, rest) = packet.split_first().ok_or_else(malformed)?;
    let (number, header) = rest.split_first_chunk().ok_or_else(malformed)?;
    let kind = *Kind::ALL.get(usize::from(*kind)).ok_or_else(malformed)?;
    Ok(Some(Message { kind, number: u64::from_le_bytes(*number), header: header.to_vec() }))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn message_arrives_as_it_was_sent_and_malformed_is_an_error() {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        for kind in Kind::ALL {
            send_message(&one, kind, u64::MAX - 1, b"header").unwrap();
            let message = receive_message(&other).unwrap();
            assert_eq!(message, Some(Message { kind, number: u64::MAX - 1, header: b"header".to_vec() }));
        }
        assert!(send_message(&one, Kind::Start, 0, &[0; MAX_HEADER_BYTES + 1]).is_err());
        for malformed in [&b"x"[..], &[99; 20], &[0; 8], &[0; 2 * MAX_HEADER_BYTES]] {
            send(&one, malformed, SendFlags::empty()).unwrap();
            assert!(receive_message(&other).is_err(), "{} bytes", malformed.len());
        }
        drop(one);
        assert_eq!(receive_message(&other).unwrap(), None);
    }
}
