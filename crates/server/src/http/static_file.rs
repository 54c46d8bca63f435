//! Files that are embedded in the program.

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{
    HeaderValue,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};

/// An embedded file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StaticFile {
    /// The media type.
    pub(crate) content_type: &'static str,
    /// The content security policy.
    pub(crate) policy: &'static str,
    /// The content.
    pub(crate) bytes: &'static [u8],
}

impl StaticFile {
    /// Returns a response with the file. All responses share its bytes, so that clients that read
    /// nothing occupy no memory.
    pub(crate) fn response(self) -> Response {
        let content_type = HeaderValue::from_static(self.content_type);
        file_response(content_type, self.policy, Bytes::from_static(self.bytes))
    }
}

/// Returns a response with the content of a file.
pub(crate) fn file_response(content_type: HeaderValue, policy: &'static str, bytes: Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, bytes).into_response()
}
