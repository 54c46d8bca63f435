//! Why a connection fails: a server of another protocol, or a certificate that is not accepted.

use std::{error::Error, io, time::Duration};

use rustls::{CertificateError, Error as TlsError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Status, transport::Uri};

/// The first bytes of an HTTP/2 client: the preface, and an empty frame of settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The type of the first HTTP/2 frame of a server, which is its fourth byte.
const SETTINGS_FRAME: u8 = 4;

/// The types of TLS records with which a server answers: an alert, or a part of a handshake.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// The time limit for the first bytes of a server.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum number of bytes of a reply in a message.
const SHOWN_BYTES: usize = 40;

/// Explains a failed connection to `url` in one line, with what to do.
pub(super) fn explain(url: &Uri, error: &(dyn Error + 'static)) -> String {
    let server = server(url);
    match tls_error(error) {
        Some(TlsError::InvalidMessage(_)) => {
            format!("{server} does not speak TLS: use http://{}", authority(url))
        }
        Some(TlsError::InvalidCertificate(cause)) => explain_certificate(url, cause),
        _ => {
            let cause = root_cause(error);
            format!("cannot reach {server}: {cause} (check that blip-serve serve is running)")
        }
    }
}

/// Explains why the certificate of `url` is not accepted.
fn explain_certificate(url: &Uri, cause: &CertificateError) -> String {
    let host = url.host().unwrap_or_default();
    let text = cause.to_string();
    let (what, remedy) = match cause {
        CertificateError::UnknownIssuer => {
            ("its issuer is unknown".to_owned(), "name the certificate of the issuer by --ca-file".to_owned())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("it has expired".to_owned(), "renew it on the server".to_owned())
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("it is not valid for {host}"),
            "use a name of its subjectAltName, or issue it for this name".to_owned(),
        ),
        // The authority and the server are the same, as openssl req -x509 makes it.
        _ if text.contains("CaUsedAsEndEntity") => (
            "it is that of an authority (CA:TRUE), not of a server".to_owned(),
            "create it by openssl req -x509 with -addext basicConstraints=critical,CA:FALSE and -addext \
             subjectAltName=..., and name it by --ca-file"
                .to_owned(),
        ),
        _ => (text, "check the certificate of the server and --ca-file".to_owned()),
    };
    format!("certificate of {} not accepted: {what} ({remedy})", server(url))
}

/// Connects to `url` without TLS, and returns why the server cannot answer gRPC, if its first bytes
/// show it.
pub(super) async fn probe(url: &Uri) -> Option<String> {
    let reply = timeout(REPLY_TIMEOUT, first_bytes(url)).await.ok()?.ok()?;
    describe_reply(url, &reply)
}

async fn first_bytes(url: &Uri) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((host(url), url.port_u16().unwrap_or(80))).await?;
    stream.write_all(PREFACE).await?;
    let mut bytes = vec![0; 256];
    let length = stream.read(&mut bytes).await?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Returns what the first bytes of a server say about its protocol, or `None` for HTTP/2.
fn describe_reply(url: &Uri, reply: &[u8]) -> Option<String> {
    let (first, server) = (*reply.first()?, server(url));
    if reply.get(3) == Some(&SETTINGS_FRAME) {
        return None;
    }
    if TLS_RECORDS.contains(&first) && reply.get(1) == Some(&3) {
        return Some(format!("{server} speaks TLS: use https://{}", authority(url)));
    }
    let line = reply.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
    let shown = line.get(..SHOWN_BYTES.min(line.len())).unwrap_or_default().escape_ascii();
    Some(not_grpc(url, &format!("it answered \"{shown}\"")))
}

/// Returns the message for a server of another protocol.
pub(super) fn not_grpc(url: &Uri, cause: &str) -> String {
    let server = server(url);
    format!(
        "{server} does not speak gRPC: {cause} (name the gRPC address of blip-serve serve, by default port 50051)"
    )
}

/// Returns whether a call failed below HTTP.
pub(super) fn is_broken_transport(status: &Status) -> bool {
    status.source().is_some()
}

/// Returns whether an HTTP server answered that does not know gRPC.
pub(super) fn is_http(status: &Status) -> bool {
    status.message().starts_with("grpc-status header missing")
}

/// Returns the URL without its path.
fn server(url: &Uri) -> String {
    format!("{}://{}", url.scheme_str().unwrap_or("http"), authority(url))
}

fn authority(url: &Uri) -> &str {
    url.authority().map_or("", |authority| authority.as_str())
}

/// Returns the host, an IPv6 address without brackets.
fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// Returns the TLS error among the causes of an error.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        // The source of an I/O error is that of the error inside it.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

/// Returns the innermost cause of a transport error, the only one with a meaningful message.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Uri {
        Uri::from_static("http://blip:1")
    }

    #[test]
    fn first_bytes_show_the_protocol() {
        let tls_alert = [0x15, 3, 3, 0, 2, 2, 50];
        let message = describe_reply(&url(), &tls_alert).unwrap();
        assert_eq!(message, "http://blip:1 speaks TLS: use https://blip:1");
        for (reply, shown) in [
            (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n".as_slice(), "\"HTTP/1.1 400 Bad Request\""),
            (b"SSH-2.0-OpenSSH\r\n", "\"SSH-2.0-OpenSSH\""),
            (b"\xff\n", "\"\\xff\""),
        ] {
            let message = describe_reply(&url(), reply).unwrap();
            assert!(message.contains(shown) && message.contains("port 50051"), "{message}");
        }
        let http2 = [0, 0, 0, SETTINGS_FRAME, 0, 0, 0, 0, 0];
        for silent in [http2.as_slice(), b""] {
            assert_eq!(describe_reply(&url(), silent), None);
        }
    }

    #[test]
    fn tls_error_is_found_inside_io_errors() {
        let inner = io::Error::new(io::ErrorKind::InvalidData, TlsError::DecryptError);
        let outer = io::Error::other(inner);
        assert_eq!(tls_error(&outer), Some(&TlsError::DecryptError));
        assert_eq!(tls_error(&io::Error::other("closed")), None);
    }

    #[test]
    fn certificate_errors_say_what_to_do() {
        for (cause, words) in [
            (CertificateError::UnknownIssuer, "--ca-file"),
            (CertificateError::Expired, "renew it"),
            (CertificateError::NotValidForName, "not valid for blip"),
            (CertificateError::BadSignature, "check the certificate"),
        ] {
            let message = explain(&url(), &TlsError::InvalidCertificate(cause));
            assert!(message.starts_with("certificate of http://blip:1 not accepted: "), "{message}");
            assert!(message.contains(words), "{message}");
        }
    }
}
