//! The environment variables by which Vertex AI configures a container.

use std::ffi::{OsStr, OsString};

/// The variable of the port of the HTTP listener.
const PORT: &str = "AIP_HTTP_PORT";

/// Returns the variable of a setting, and its value, for a variable of Vertex AI.
pub(crate) fn setting_of(variable: &str, value: &OsStr) -> Option<(&'static str, OsString)> {
    match variable {
        PORT => {
            let mut address = OsString::from("0.0.0.0:");
            address.push(value);
            Some(("BLIP_SERVE__HTTP__LISTEN", address))
        }
        "AIP_HEALTH_ROUTE" => Some(("BLIP_SERVE__HTTP__HEALTH_ROUTE", value.to_owned())),
        "AIP_PREDICT_ROUTE" => Some(("BLIP_SERVE__HTTP__PREDICT_ROUTE", value.to_owned())),
        _ => None,
    }
}
