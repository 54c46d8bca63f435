//! A refusal on its way to the caller: a row of the table with its particulars, as a status with details.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use crate::{error::ErrorReason, request_id::RequestId};

/// The `domain` of every `google.rpc.ErrorInfo` that this server sends.
pub const DOMAIN: &str = "blip.v1";

/// One refusal: a reason with the particulars that its template and its `ErrorInfo.metadata` name.
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

/// Longest piece of a caller's own text, or of a library's error, that is given back in a message, in characters.
/// A call's status travels in HTTP/2 headers, which clients limit to 8 KiB.
const MAX_ECHO_CHARS: usize = 200;

impl RequestError {
    /// A refusal without particulars.
    #[must_use]
    pub fn new(reason: ErrorReason) -> Self {
        Self { reason, field: None, value: None, limit: None, cause: None, retry_after: None }
    }

    /// Names the field of the request at fault, such as `inputs[0].image.data`.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// What was found, with its unit.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(excerpt(value.into()));
        self
    }

    /// What would be allowed, with its unit.
    #[must_use]
    pub fn limit(mut self, limit: impl Into<String>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// What went wrong underneath.
    #[must_use]
    pub fn cause(mut self, cause: impl ToString) -> Self {
        self.cause = Some(excerpt(cause.to_string()));
        self
    }

    /// When trying again can help; becomes a `google.rpc.RetryInfo`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }

    /// When trying again can help, if that is known.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What is known besides the reason: `field`, `value`, `limit` and `cause`, as far as they are.
    pub fn details(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("field", &self.field), ("value", &self.value), ("limit", &self.limit), ("cause", &self.cause)]
            .into_iter()
            .filter_map(|(name, text)| text.as_deref().map(|text| (name, text)))
    }

    /// The template with its particulars filled in.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = String::new();
        let mut rest = self.reason.row().template;
        // One pass, so that braces inside a caller's text are never taken for a placeholder.
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

    /// The status of a call: code, message, and details in `grpc-status-details-bin`.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let row = self.reason.row();
        let message = self.message();
        let metadata: HashMap<String, String> =
            self.details().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(row.name, DOMAIN, metadata);
        let at_fault = [Code::InvalidArgument, Code::FailedPrecondition, Code::Unimplemented];
        if let Some(field) = self.field.as_ref().filter(|_| at_fault.contains(&row.code)) {
            details.add_bad_request_violation(field, &message);
        }
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
        }
        if let Some(request) = RequestId::current() {
            details.set_request_info(request.as_str(), "");
        }
        Status::with_error_details(row.code, message, details)
    }

    /// The same as a message, for one pair of a call.
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
    fn from(refusal: RequestError) -> Self {
        refusal.to_status()
    }
}

fn excerpt(text: String) -> String {
    match text.char_indices().nth(MAX_ECHO_CHARS) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_template_names_only_particulars_that_a_refusal_has() {
        for reason in ErrorReason::ALL {
            let refusal =
                RequestError::new(*reason).field("FIELD").value("VALUE").limit("LIMIT").cause("CAUSE");
            let message = refusal.message();
            assert!(!message.contains(['{', '}']) && !message.contains("unknown"), "{message}");
            assert!(
                !message.ends_with('.')
                    && message.starts_with(|c: char| !c.is_uppercase() || "FVLC".contains(c))
            );
        }
    }

    #[test]
    fn a_status_carries_reason_domain_field_and_retry_delay() {
        let status = RequestError::new(ErrorReason::ImageTooLarge)
            .field("inputs[3].image.data")
            .value("9 bytes")
            .limit("8 bytes")
            .retry_after(Duration::from_millis(1500))
            .to_status();
        assert_eq!(status.message(), "inputs[3].image.data is 9 bytes long, the limit is 8 bytes");
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
    fn the_status_of_a_pair_holds_the_same_details_as_that_of_a_call() {
        use tonic_types::RpcStatusExt as _;
        let refusal = RequestError::new(ErrorReason::QuestionEmpty).field("inputs[0].questions[1].text");
        let (call, pair) = (refusal.to_status(), refusal.to_rpc_status());
        assert_eq!((pair.code, pair.message.as_str()), (call.code() as i32, call.message()));
        let (pair, call) = (pair.get_error_details_vec(), call.get_error_details_vec());
        assert_eq!((pair.len(), format!("{pair:?}")), (2, format!("{call:?}")));
    }

    proptest! {
        #[test]
        fn no_text_of_a_caller_makes_a_message_long_or_is_taken_for_a_placeholder(text in "\\PC{0,2000}") {
            let status = RequestError::new(ErrorReason::ImageUnreadable).field("{cause}").cause(&text).to_status();
            let begins_right = status.message().starts_with("{cause} cannot be decoded: ");
            prop_assert!(begins_right);
            prop_assert!(status.message().chars().count() < 300);
        }
    }
}
