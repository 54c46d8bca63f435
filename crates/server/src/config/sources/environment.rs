//! Settings in environment variables.

use std::ffi::OsString;

use crate::config::{
    error::SettingsError,
    schema::{VARIABLE_PREFIX, definitions},
    sources::{
        source_values::{SettingName, SourceKind, SourceValues},
        vertex_ai,
    },
    suggest::nearest,
};

/// Reads the settings in `variables`, the whole environment.
///
/// Variables without the prefix of settings are ignored, and those in `other`, which the program
/// reads for something else. A variable of Vertex AI gives a setting whose variable is not set.
///
/// # Errors
/// [`SettingsError`] if a variable with the prefix is unknown or has an invalid value.
pub fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    other: &[&str],
) -> Result<SourceValues, SettingsError> {
    const KIND: SourceKind<'_> = SourceKind::Environment;
    let mut values = SourceValues::default();
    let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
    let is_set = |name: &str| variables.iter().any(|(variable, _)| variable == name);
    let settings = variables.iter().map(|(variable, value)| {
        match variable.to_str().and_then(|variable| vertex_ai::setting_of(variable, value)) {
            Some((name, value)) if !is_set(name) => (name.into(), value),
            _ => (variable.clone(), value.clone()),
        }
    });
    for (variable, value) in settings {
        let variable: OsString = variable;
        let variable = variable.to_string_lossy();
        if !variable.starts_with(VARIABLE_PREFIX) || other.contains(&&*variable) {
            continue;
        }
        let place = KIND.to_string();
        let Some(name) = SettingName::find(KIND, &variable) else {
            let known = definitions().iter().map(|definition| definition.variable.as_str());
            let nearest = nearest(&variable, known.chain(other.iter().copied()), "__");
            return Err(SettingsError::Unknown { place, name: variable.into_owned(), nearest });
        };
        let Some(text) = value.to_str() else {
            let (name, expected) = (variable.into_owned(), name.definition.expected());
            return Err(SettingsError::WrongKind { place, name, value: "not UTF-8".to_owned(), expected });
        };
        values.insert(KIND, &name, name.definition.split(text))?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::definition;

    fn read(variables: &[(&str, &str)]) -> Result<SourceValues, SettingsError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        environment(variables, &["BLIP_SERVE__LOG"])
    }

    #[test]
    fn variables_of_settings_are_read_and_others_ignored() {
        let values = read(&[
            ("BLIP_SERVE__FETCH__ALLOW_PORTS", "80, 8080"),
            ("BLIP_SERVE__AUTH__KEYS", ""),
            ("BLIP_SERVE__LOG", "debug"),
            ("BLIP_SERVE_CACHE", "/tmp"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        let get = |key: &str| values.get(definition(key).unwrap());
        assert_eq!(get("fetch.allow_ports"), Some(["80".to_owned(), "8080".to_owned()].as_slice()));
        assert_eq!(get("auth.keys"), Some([].as_slice()));
        assert_eq!(format!("{values:?}"), r#"{"auth.keys", "fetch.allow_ports"}"#);
    }

    #[test]
    fn variables_of_vertex_ai_give_settings_that_are_not_set() {
        let vertex =
            [("AIP_HTTP_PORT", "8081"), ("AIP_PREDICT_ROUTE", "/a:predict"), ("AIP_MODE", "PREDICTION")];
        let listen = |variables: &[(&str, &str)]| {
            read(variables).unwrap().get(definition("http.listen").unwrap()).map(<[String]>::to_vec)
        };
        assert_eq!(listen(&vertex), Some(vec!["0.0.0.0:8081".to_owned()]));
        let explicit = [&vertex[..], &[("BLIP_SERVE__HTTP__LISTEN", "127.0.0.1:1")]].concat();
        assert_eq!(listen(&explicit), Some(vec!["127.0.0.1:1".to_owned()]));
        let route = read(&vertex).unwrap().get(definition("http.predict_route").unwrap()).unwrap().to_vec();
        assert_eq!(route, ["/a:predict"]);
    }

    #[test]
    fn debug_output_hides_values() {
        let values = read(&[("BLIP_SERVE__AUTH__KEYS", "correct-horse")]).unwrap();
        assert_eq!(format!("{values:?}"), r#"{"auth.keys"}"#);
    }

    #[test]
    fn unknown_variable_suggests_the_nearest_name() {
        let error = |name| read(&[(name, "1")]).unwrap_err().to_string();
        assert_eq!(
            error("BLIP_SERVE__FETCH__MAX_BYTE"),
            "environment: unknown setting BLIP_SERVE__FETCH__MAX_BYTE; \
             did you mean BLIP_SERVE__FETCH__MAX_BYTES?"
        );
        assert!(error("BLIP_SERVE__LOGS").ends_with("did you mean BLIP_SERVE__LOG?"));
    }

    #[test]
    fn invalid_value_is_reported_by_its_variable() {
        let error = read(&[("BLIP_SERVE__GRPC__LISTEN", "50051")]).unwrap_err().to_string();
        assert!(error.starts_with("environment: invalid BLIP_SERVE__GRPC__LISTEN: \"50051\""), "{error}");
    }
}
