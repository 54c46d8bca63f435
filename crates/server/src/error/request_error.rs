//! An error of a request or an item, and its conversion to a gRPC status.

use std::{collections::HashMap, fmt::Display, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use crate::{
    error::{excerpt::excerpt, table::ErrorReason},
    request_id::RequestId,
};

/// The `domain` of every `google.rpc.ErrorInfo` that this server sends.
pub const DOMAIN: &str = "blip.v1";

/// An error of a request or an item: a reason with the details for its message and for
/// `ErrorInfo.metadata`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct RequestError {
    reason: ErrorReason,
    field: Option<String>,
    value: Option<String>,
    limit: Option<String>,
    cause: Option<String>,
    retry_after: Option<Duration>,
}

impl RequestError {
    /// Creates an error without details.
    #[must_use]
    pub fn new(reason: ErrorReason) -> Self {
        Self { reason, field: None, value: None, limit: None, cause: None, retry_after: None }
    }

    /// Sets the invalid field of the request, such as `inputs[0].image.data`. A long name is
    /// shortened, because clients choose some of them.
    #[must_use]
    pub fn field(mut self, field: impl Display) -> Self {
        self.field = Some(excerpt(field));
        self
    }

    /// Sets the value found, with its unit. A long value is shortened.
    #[must_use]
    pub fn value(mut self, value: impl Display) -> Self {
        self.value = Some(excerpt(value));
        self
    }

    /// Sets the value allowed, with its unit.
    #[must_use]
    pub fn limit(mut self, limit: impl Into<String>) -> Self {
        self.limit = Some(excerpt(limit.into()));
        self
    }

    /// Sets the underlying error. A long one is shortened, because it can quote the request.
    #[must_use]
    pub fn cause(mut self, cause: impl Display) -> Self {
        self.cause = Some(excerpt(cause));
        self
    }

    /// Sets the delay before a retry, for a `google.rpc.RetryInfo`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Replaces the invalid field by what `rename` returns for it, if it returns something.
    /// Adapters give it the name that the field has in their API.
    #[must_use]
    pub fn rename_field(self, rename: impl FnOnce(&str) -> Option<String>) -> Self {
        match self.field.as_deref().and_then(rename) {
            Some(field) => self.field(field),
            None => self,
        }
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }

    /// Returns the delay before a retry, if it is known.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns those of `field`, `value`, `limit` and `cause` that are set.
    pub fn details(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("field", &self.field), ("value", &self.value), ("limit", &self.limit), ("cause", &self.cause)]
            .into_iter()
            .filter_map(|(name, text)| text.as_deref().map(|text| (name, text)))
    }

    /// Returns the template of the reason with its placeholders replaced.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = String::new();
        let mut rest = self.reason.spec().template;
        // In one pass, braces in a client's text are never taken for a placeholder.
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            message.push_str(before);
            message.push_str(
                self.details().find(|(known, _)| *known == name).map_or("unknown", |(_, text)| text),
            );
            rest = after;
        }
        message.push_str(rest);
        message
    }

    /// Returns the status of a call: code, message, and details in `grpc-status-details-bin`.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let spec = self.reason.spec();
        let message = self.message();
        let metadata: HashMap<String, String> =
            self.details().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(spec.name, DOMAIN, metadata);
        let blames_field = [Code::InvalidArgument, Code::FailedPrecondition, Code::Unimplemented];
        if let Some(field) = self.field.as_ref().filter(|_| blames_field.contains(&spec.code)) {
            details.add_bad_request_violation(field, &message);
        }
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
        }
        if let Some(request) = RequestId::current() {
            details.set_request_info(request.as_str(), "");
        }
        Status::with_error_details(spec.code, message, details)
    }

    /// Returns the status as a protobuf message, for one item of a call.
    #[must_use]
    pub fn to_rpc_status(&self) -> pb::Status {
        let status = self.to_status();
        let plain = || pb::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: vec![],
        };
        pb::Status::decode(status.details()).unwrap_or_else(|_| plain())
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        error.to_status()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_name_known_details_only() {
        for reason in ErrorReason::ALL {
            let error =
                RequestError::new(*reason).field("FIELD").value("VALUE").limit("LIMIT").cause("CAUSE");
            let message = error.message();
            assert!(!message.contains(['{', '}']), "{message}");
            let names = ["field", "value", "limit", "cause"];
            let template = reason.spec().template;
            for name in template.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                assert!(names.contains(&name), "{template}");
            }
        }
    }

    #[test]
    fn status_has_reason_domain_field_and_retry_delay() {
        let status = RequestError::new(ErrorReason::ImageTooLarge)
            .field("inputs[3].image.data")
            .value("9 bytes")
            .limit("8 bytes")
            .retry_after(Duration::from_millis(1500))
            .to_status();
        assert_eq!(status.message(), "inputs[3].image.data too large: 9 bytes, 8 bytes allowed");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("IMAGE_TOO_LARGE", DOMAIN));
        assert_eq!(info.metadata.get("limit").map(String::as_str), Some("8 bytes"));
        assert_eq!(
            details.bad_request().unwrap().field_violations.first().unwrap().field,
            "inputs[3].image.data"
        );
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn item_status_has_the_details_of_the_call_status() {
        use tonic_types::RpcStatusExt as _;
        let error = RequestError::new(ErrorReason::QuestionEmpty).field("inputs[0].questions[1].text");
        let (call, item) = (error.to_status(), error.to_rpc_status());
        assert_eq!((item.code, item.message.as_str()), (call.code() as i32, call.message()));
        let (item, call) = (item.get_error_details_vec(), call.get_error_details_vec());
        assert_eq!((item.len(), format!("{item:?}")), (2, format!("{call:?}")));
    }

    proptest! {
        #[test]
        fn client_text_is_shortened_and_no_placeholder(text in "\\PC{0,2000}") {
            let error = RequestError::new(ErrorReason::PayloadInvalid).field("{cause}").cause(&text);
            let is_literal = error.message().starts_with("{cause} is invalid: ");
            prop_assert!(is_literal);
            prop_assert!(error.message().len() < 250);
            let error = error.field(&text).value(&text);
            prop_assert!(error.details().all(|(_, detail)| detail.len() < 230));
        }
    }
}
