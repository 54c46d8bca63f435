//! Errors of stores, without secrets.

use std::{env, error::Error as StdError, io, iter::successors};

use object_store::{
    Error,
    client::{HttpError, HttpErrorKind},
};

use crate::storage::location::ObjectUrl;

/// Maximum length of the code of an error, such as `NoSuchBucket`.
const MAX_CODE_BYTES: usize = 64;

/// Minimum length of a secret that is removed from texts. Shorter ones stand for no secret.
const MIN_SECRET_BYTES: usize = 6;

/// How a kind of store gets its credentials.
struct Credentials {
    scheme: &'static str,
    /// Variables, one of which is set if there are credentials.
    variables: &'static [&'static str],
    remedy: &'static str,
}

const CREDENTIALS: [Credentials; 3] = [
    Credentials {
        scheme: "s3",
        variables: &[
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_SKIP_SIGNATURE",
        ],
        remedy: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public \
                 bucket",
    },
    Credentials {
        scheme: "gs",
        variables: &[
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SKIP_SIGNATURE",
        ],
        remedy: "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    },
    Credentials {
        scheme: "az",
        variables: &[
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_CLIENT_ID",
            "AZURE_STORAGE_CLIENT_ID",
            "AZURE_SKIP_SIGNATURE",
        ],
        remedy: "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true \
                 for a public container",
    },
];

/// Returns the error of a request as one of an operation on files. It does not name the object.
pub(super) fn request_error(url: &ObjectUrl, error: &Error) -> io::Error {
    let causes = || successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source());
    let status = causes().find_map(|cause| status_of(&cause.to_string()));
    let kind = causes().find_map(|cause| cause.downcast_ref::<HttpError>()).map(HttpError::kind);
    let credentials = CREDENTIALS.iter().find(|each| each.scheme == url.scheme());
    let has_credentials = credentials.is_none_or(|each| each.variables.iter().any(|name| is_set(name)));
    let shown = status.as_deref().unwrap_or("no further reason");
    // Lists have one kind of error for all statuses.
    let is_denied = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        || shown.starts_with("401")
        || shown.starts_with("403");
    let is_missing = matches!(error, Error::NotFound { .. }) || shown.starts_with("404");
    let (io_kind, message) = match error {
        _ if is_missing => {
            let place = if url.is_web() { "file" } else { "object or bucket" };
            (io::ErrorKind::NotFound, format!("no such {place} ({shown})"))
        }
        Error::Precondition { .. } => {
            (io::ErrorKind::Other, "the object has changed while it was read".to_owned())
        }
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            (io::ErrorKind::Unsupported, "the store does not support this operation".to_owned())
        }
        _ if !has_credentials && (is_denied || kind.is_some()) => {
            let remedy = credentials.map_or("", |each| each.remedy);
            (io::ErrorKind::PermissionDenied, format!("no credentials: {remedy}"))
        }
        _ if is_denied => {
            let remedy = credentials.map_or_else(String::new, |_| {
                ": check the credentials in the environment and their permissions".to_owned()
            });
            (io::ErrorKind::PermissionDenied, format!("access denied ({shown}){remedy}"))
        }
        _ if status.is_some() => (io::ErrorKind::Other, format!("the server answered {shown}")),
        _ => match kind {
            Some(HttpErrorKind::Connect) => {
                (io::ErrorKind::NotConnected, "no connection to the server".to_owned())
            }
            Some(HttpErrorKind::Timeout) => {
                (io::ErrorKind::TimedOut, "the server has not answered in time".to_owned())
            }
            Some(HttpErrorKind::Request | HttpErrorKind::Interrupted | HttpErrorKind::Decode) => {
                (io::ErrorKind::UnexpectedEof, "the server has ended its answer early".to_owned())
            }
            _ => (io::ErrorKind::Other, without_secrets(&error.to_string())),
        },
    };
    io::Error::new(io_kind, message)
}

/// Returns the error of settings that no store can be made of.
pub(super) fn settings_error(error: &Error) -> io::Error {
    let reason = match error {
        Error::Generic { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    io::Error::new(io::ErrorKind::InvalidInput, without_secrets(&reason))
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Returns the status of an answer, and the code that a store adds: `403 InvalidAccessKeyId`.
fn status_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("status code: ")?;
    let status = rest.get(..3).filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))?;
    let code = rest.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let is_code =
        |code: &&str| code.len() <= MAX_CODE_BYTES && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Some(match code.map(|(code, _)| code).filter(is_code) {
        Some(code) => format!("{status} {code}"),
        None => status.to_owned(),
    })
}

/// Returns a text of a store without the values of variables with credentials, and with URLs that
/// have no user and no query.
fn without_secrets(text: &str) -> String {
    let is_secret = |name: &str| {
        ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix))
            && ["KEY", "SECRET", "TOKEN", "PASSWORD", "SAS"].iter().any(|part| name.contains(part))
    };
    let mut text = text.to_owned();
    for (name, value) in env::vars_os() {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        if is_secret(&name) && value.len() >= MIN_SECRET_BYTES {
            text = text.replace(&*value, "***");
        }
    }
    let words = text.split(' ').map(|word| match word.split_once("://") {
        Some((scheme, rest)) => {
            let address = rest.split('?').next().unwrap_or_default();
            let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_has_the_code_of_the_store() {
        let text = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>InvalidAccessKeyId\
                    </Code><AWSAccessKeyId>me</AWSAccessKeyId></Error>";
        assert_eq!(status_of(text).unwrap(), "403 InvalidAccessKeyId");
        assert_eq!(status_of("non-2xx status code: 500 Internal: <Code>a b</Code>").unwrap(), "500");
        assert_eq!(status_of("no status"), None);
    }

    #[test]
    fn users_and_queries_are_removed_from_texts() {
        let text = "error for https://me:secret@host/a?sig=secret in 3s, is it?";
        assert_eq!(without_secrets(text), "error for https://host/a in 3s, is it?");
    }
}
