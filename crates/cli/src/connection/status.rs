//! The status of a call in one line, with what to do.

use blip_server::error::{ErrorReason, code_name};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Returns the status of a call that failed, in one line.
pub(crate) fn describe_status(status: &Status) -> String {
    let remedy = remedy(status).map(|remedy| format!(" ({remedy})")).unwrap_or_default();
    format!("the server answered {}: {}{remedy}", code_name(status.code()), status.message())
}

/// Returns what the user can do about the status of a call.
fn remedy(status: &Status) -> Option<String> {
    let reason = status.get_details_error_info().map(|info| info.reason);
    let Some(reason) = reason else {
        let is_foreign = status.code() == Code::Unimplemented;
        return is_foreign.then(|| "check that it is a blip-serve server of this version".to_owned());
    };
    let known = ErrorReason::ALL.iter().find(|known| known.spec().name == reason)?;
    match known {
        ErrorReason::ApiKeyMissing => Some("set --api-key or BLIP_SERVE__API_KEY".to_owned()),
        ErrorReason::ApiKeyInvalid => {
            Some("check --api-key and BLIP_SERVE__API_KEY, or request a key from the operator".to_owned())
        }
        ErrorReason::AdminOff | ErrorReason::AdminRequired => {
            let remedy = known.spec().remedy.trim_end_matches('.');
            let mut letters = remedy.chars();
            let first = letters.next()?.to_ascii_lowercase();
            Some(format!("{first}{}", letters.as_str()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use blip_server::error::RequestError;

    use super::*;

    #[test]
    fn refused_key_and_foreign_server_say_what_to_do() {
        for (status, words) in [
            (
                RequestError::new(ErrorReason::ApiKeyMissing).into(),
                "UNAUTHENTICATED: missing api key (set --api-key",
            ),
            (RequestError::new(ErrorReason::ApiKeyInvalid).into(), "unknown api key (check --api-key"),
            (RequestError::new(ErrorReason::AdminOff).into(), "(start the server with --admin)"),
            (Status::unimplemented(""), "check that it is a blip-serve server"),
        ] {
            let text = describe_status(&status);
            assert!(text.starts_with("the server answered ") && text.contains(words), "{text}");
        }
        assert_eq!(describe_status(&Status::unavailable("busy")), "the server answered UNAVAILABLE: busy");
    }
}
