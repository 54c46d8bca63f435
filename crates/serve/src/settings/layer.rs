//! Settings as one source gives them: a file, the environment, or a command line.

use std::{collections::BTreeMap, fmt};

use super::{
    SettingsError,
    definition::{Definition, definitions},
};

/// What one source says: the values of some settings, by their keys, as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<&'static str, Vec<String>>);

impl Layer {
    /// What it says about a setting.
    #[must_use]
    pub fn get(&self, definition: &Definition) -> Option<&[String]> {
        self.0.get(definition.key.as_str()).map(Vec::as_slice)
    }

    /// Has a setting say `values`, which it can have: see [`Definition::check`].
    pub fn set(&mut self, definition: &'static Definition, values: Vec<String>) {
        self.0.insert(&definition.key, values);
    }
}

impl fmt::Debug for Layer {
    /// Which settings it speaks of: what it says may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the environment says. `variables` are all of it; those not of the pattern are others' business, and so are those
/// in `taken`, which something else than a setting is read from.
///
/// # Errors
/// [`SettingsError`] if a variable of the pattern is no setting, or has a value that the setting cannot have.
pub fn environment(
    variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    taken: &[&str],
) -> Result<Layer, SettingsError> {
    const PLACE: &str = "environment";
    let mut layer = Layer::default();
    for (variable, value) in variables {
        let variable = variable.to_string_lossy();
        if !variable.starts_with(super::definition::VARIABLE_PREFIX) || taken.contains(&&*variable) {
            continue;
        }
        let Some(definition) = definitions().iter().find(|definition| definition.variable == variable) else {
            let known = definitions().iter().map(|definition| definition.variable.as_str());
            let nearest = super::nearest::nearest(&variable, known.chain(taken.iter().copied()), "__");
            return Err(SettingsError::Unknown { place: PLACE.into(), name: variable.into_owned(), nearest });
        };
        let Some(text) = value.to_str() else {
            let (name, value) = (variable.into_owned(), "not UTF-8".to_owned());
            return Err(SettingsError::WrongKind {
                place: PLACE.into(),
                name,
                value,
                expected: definition.expected(),
            });
        };
        let values = definition.split(text);
        definition.check(PLACE, &variable, &values)?;
        layer.set(definition, values);
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::definition::definition;

    fn read(variables: &[(&str, &str)]) -> Result<Layer, SettingsError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        environment(variables, &["BLIP_SERVE__LOG"])
    }

    #[test]
    fn the_environment_says_what_its_variables_say() {
        let layer = read(&[
            ("BLIP_SERVE__FETCH__ALLOW_PORTS", "80, 8080"),
            ("BLIP_SERVE__AUTH__KEYS", ""),
            ("BLIP_SERVE__LOG", "debug"),
            ("BLIP_SERVE_CACHE", "/tmp"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        let get = |key: &str| layer.get(definition(key).unwrap());
        assert_eq!(get("fetch.allow_ports"), Some(["80".to_owned(), "8080".to_owned()].as_slice()));
        assert_eq!(get("auth.keys"), Some([].as_slice()));
        assert_eq!(layer.0.len(), 2);
    }

    #[test]
    fn a_layer_does_not_show_what_it_says() {
        let layer = read(&[("BLIP_SERVE__AUTH__KEYS", "correct-horse")]).unwrap();
        assert_eq!(format!("{layer:?}"), "{\"auth.keys\"}");
    }

    #[test]
    fn an_unknown_variable_is_refused_with_the_nearest_known() {
        let told = |name| read(&[(name, "1")]).unwrap_err().to_string();
        assert_eq!(
            told("BLIP_SERVE__FETCH__MAX_BYTE"),
            "environment: BLIP_SERVE__FETCH__MAX_BYTE is no setting, did you mean BLIP_SERVE__FETCH__MAX_BYTES?"
        );
        assert!(told("BLIP_SERVE__LOGS").ends_with("did you mean BLIP_SERVE__LOG?"));
    }

    #[test]
    fn a_variable_that_cannot_be_is_told_by_its_name() {
        let told = read(&[("BLIP_SERVE__GRPC__LISTEN", "50051")]).unwrap_err().to_string();
        assert!(told.starts_with("environment: BLIP_SERVE__GRPC__LISTEN is \"50051\""), "{told}");
    }
}
