//! Forms of the inference routes.

use std::time::Duration;

use super::server::{Port, Step, exchange};

/// The routes that accept forms, and one that does not.
const ROUTES: [&str; 4] = ["/v1/ask", "/v1/caption", "/v1/match", "/v1/embed"];

/// The length of the pieces in which the body arrives slowly.
const PIECE_BYTES: usize = 61;

/// Posts a form. The first line of the input is the route and the boundary.
///
/// The status is the same for a body that arrives at once and one that arrives in small pieces. It
/// is not an internal error.
pub fn multipart_form(bytes: &[u8]) -> bool {
    let line_bytes = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = bytes.split_at(line_bytes);
    let body = body.get(1..).unwrap_or_default();
    let line: String =
        line.iter().filter(|byte| (b' '..=b'~').contains(*byte)).copied().map(char::from).collect();
    let (route, boundary) = line.split_once(' ').unwrap_or(("", line.as_str()));
    let route = ROUTES.into_iter().find(|known| *known == route).unwrap_or("/v1/ask");
    let head = format!(
        "POST {route} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary={boundary}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let send = |bytes: &[u8]| Step::Send(bytes.to_vec());
    let at_once = vec![send(&[head.as_bytes(), body].concat())];
    let pieces = body.chunks(PIECE_BYTES).flat_map(|piece| [Step::Wait(Duration::ZERO), send(piece)]);
    let in_pieces = [send(head.as_bytes())].into_iter().chain(pieces).collect();
    let [at_once, in_pieces] = [at_once, in_pieces].map(|steps| exchange(Port::Http, steps).status());
    assert_eq!(at_once, in_pieces);
    at_once == "200"
}
