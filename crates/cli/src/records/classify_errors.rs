//! The results of records that the server did not answer.

use std::time::Duration;

use blip_server::error::{ErrorReason, code_name};
use bulk::RecordResult;
use tonic::{Code, Status};
use tonic_types::{ErrorInfo, RetryInfo, RpcStatusExt as _, StatusExt as _, pb};

use crate::{
    connection::describe_status,
    records::response_fields::{error_fields, status_fields},
};

/// Reasons that mean that the server does not serve now. The record is sent again.
const NOT_SERVING: [ErrorReason; 3] =
    [ErrorReason::ModelLoading, ErrorReason::ShuttingDown, ErrorReason::EngineBroken];

/// Returns the result of an item with an error.
///
/// # Errors
/// The server does not have the model, so that no item can ever be processed.
pub(crate) fn classify_item_error(status: &pb::Status) -> Result<RecordResult, String> {
    let code = Code::from_i32(status.code);
    let reason = reason(code, status.get_details_error_info());
    if code == Code::NotFound && reason == "MODEL_UNKNOWN" {
        return Err(describe(code, &status.message));
    }
    if NOT_SERVING.iter().any(|not_serving| not_serving.spec().name == reason) {
        return Ok(RecordResult::Unavailable(describe(code, &status.message)));
    }
    Ok(rejection(code, &reason, &status.message, status.get_details_retry_info()))
}

/// Returns the result of the items without a response when a call ended with `status`.
///
/// # Errors
/// The reason why no call can ever succeed, such as an unknown API key.
pub(crate) fn classify_call_end(status: &Status) -> Result<RecordResult, String> {
    let info = status.get_details_error_info();
    let message = || describe_status(status);
    match status.code() {
        Code::Unavailable => Ok(RecordResult::Unavailable(message())),
        // The gRPC client reports a broken connection by these codes, without details.
        Code::Internal | Code::Unknown | Code::Cancelled if info.is_none() => {
            Ok(RecordResult::Unavailable(message()))
        }
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::DeadlineExceeded => Err(message()),
        code => Ok(rejection(code, &reason(code, info), status.message(), status.get_details_retry_info())),
    }
}

/// Returns the result of an item that a correct server would have answered.
pub(crate) fn empty_response(message: &str) -> RecordResult {
    RecordResult::Failed(error_fields("EMPTY_RESPONSE", message))
}

fn reason(code: Code, info: Option<ErrorInfo>) -> String {
    info.map_or_else(|| code_name(code), |info| info.reason)
}

fn rejection(code: Code, reason: &str, message: &str, retry: Option<RetryInfo>) -> RecordResult {
    let fields = status_fields(code, reason, message);
    match retry {
        Some(retry) => RecordResult::Busy(retry.retry_delay.unwrap_or(Duration::ZERO), fields),
        None => RecordResult::Failed(fields),
    }
}

/// Returns a status in one line.
fn describe(code: Code, message: &str) -> String {
    format!("the server answered {}: {message}", code_name(code))
}

#[cfg(test)]
mod tests {
    use blip_server::error::RequestError;

    use super::*;

    #[test]
    fn item_error_is_retried_only_if_a_retry_can_help() {
        let status = RequestError::new(ErrorReason::ImageEmpty).field("inputs[0].image.data").to_rpc_status();
        let Ok(RecordResult::Failed(fields)) = classify_item_error(&status) else { panic!("{status:?}") };
        assert_eq!(fields["error"]["code"], "INVALID_ARGUMENT");
        assert_eq!(fields["error"]["reason"], "IMAGE_EMPTY");
        assert_eq!(fields["error"]["message"], "inputs[0].image.data is empty");
        let status = RequestError::new(ErrorReason::ModelLoading).to_rpc_status();
        let result = classify_item_error(&status);
        assert!(matches!(result, Ok(RecordResult::Unavailable(_))), "{status:?}");
        let delay = Duration::from_secs(2);
        let status = RequestError::new(ErrorReason::QueueFull).retry_after(delay).to_rpc_status();
        let result = classify_item_error(&status);
        assert!(matches!(result, Ok(RecordResult::Busy(wait, _)) if wait == delay), "{status:?}");
    }

    #[test]
    fn call_end_is_lost_busy_or_final() {
        for lost in [Status::unavailable("stopped"), Status::unknown("transport error")] {
            assert!(matches!(classify_call_end(&lost), Ok(RecordResult::Unavailable(_))));
        }
        assert_eq!(
            classify_call_end(&Status::unauthenticated("unknown")).unwrap_err(),
            "the server answered UNAUTHENTICATED: unknown"
        );
        let busy: Status =
            RequestError::new(ErrorReason::QueueFull).retry_after(Duration::from_secs(1)).into();
        let Ok(RecordResult::Busy(_, fields)) = classify_call_end(&busy) else { panic!("{busy:?}") };
        assert_eq!(fields["error"]["reason"], ErrorReason::QueueFull.spec().name);
    }
}
