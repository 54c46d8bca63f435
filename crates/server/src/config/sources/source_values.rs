//! The settings that one source gives: a file, the environment, or a command line.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use crate::config::{
    error::SettingsError,
    renamed::{OLD_NAMES, OldName, Renaming, current_value, rename_model_fields},
    schema::{Definition, definition, definitions, variable_of},
};

/// The kind of a source, which decides how names of settings are spelled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SourceKind<'a> {
    /// The file of this path: `section.name`.
    File(&'a str),
    /// The environment: `BLIP_SERVE__SECTION__NAME`.
    Environment,
    /// A command line: `--flag`.
    CommandLine,
}

impl SourceKind<'_> {
    /// Returns a setting with its value, as the source spells it.
    fn assignment(self, name: &str, value: &str) -> String {
        match self {
            Self::File(_) => format!("{name} = {value}"),
            Self::Environment | Self::CommandLine => format!("{name}={value}"),
        }
    }
}

impl fmt::Display for SourceKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(path) => path,
            Self::Environment => "environment",
            Self::CommandLine => "command line",
        })
    }
}

/// A current or old name of a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SettingName {
    /// The setting.
    pub(crate) definition: &'static Definition,
    /// The old name, or `None` for the current one.
    pub(crate) old: Option<&'static OldName>,
}

impl SettingName {
    /// Returns all names, the current ones first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let current = definitions().iter().map(|definition| Self { definition, old: None });
        let renamed = |old: &'static OldName| {
            let definition = definition(old.new_key)?;
            Some(Self { definition, old: Some(old) })
        };
        current.chain(OLD_NAMES.iter().filter_map(renamed))
    }

    /// Returns the name that a source of this kind spells as `text`.
    pub(crate) fn find(kind: SourceKind<'_>, text: &str) -> Option<Self> {
        Self::all().find(|name| name.spelled(kind) == text)
    }

    /// Returns the name as a source of this kind spells it.
    pub(crate) fn spelled(&self, kind: SourceKind<'_>) -> String {
        match (kind, self.old) {
            (SourceKind::File(_), None) => self.definition.key.clone(),
            (SourceKind::File(_), Some(old)) => old.key.to_owned(),
            (SourceKind::Environment, None) => self.definition.variable.clone(),
            (SourceKind::Environment, Some(old)) => variable_of(old.key),
            (SourceKind::CommandLine, None) => format!("--{}", self.definition.flag()),
            (SourceKind::CommandLine, Some(old)) => format!("--{}", old.flag),
        }
    }

    /// Returns the name inside the command-line parser.
    pub(crate) fn argument_id(&self) -> &str {
        self.old.map_or(self.definition.id(), |old| old.flag)
    }
}

/// The values of a setting in one source.
#[derive(Clone, PartialEq, Eq)]
struct Assignment {
    values: Vec<String>,
    old: Option<&'static OldName>,
}

/// The values that one source gives to settings, as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SourceValues {
    assignments: BTreeMap<&'static str, Assignment>,
    renamings: Vec<Renaming>,
}

impl SourceValues {
    /// Returns the values of a setting.
    #[must_use]
    pub fn get(&self, definition: &Definition) -> Option<&[String]> {
        self.assignments.get(definition.key.as_str()).map(|assignment| assignment.values.as_slice())
    }

    /// Returns the name by which the source sets a setting.
    pub(crate) fn name_of(&self, definition: &'static Definition) -> SettingName {
        let old = self.assignments.get(definition.key.as_str()).and_then(|assignment| assignment.old);
        SettingName { definition, old }
    }

    /// Returns the old names and values that the source uses.
    #[must_use]
    pub fn renamings(&self) -> &[Renaming] {
        &self.renamings
    }

    /// Sets a setting to `values`, which must be valid ([`Definition::check`]).
    pub fn set(&mut self, definition: &'static Definition, values: Vec<String>) {
        self.assignments.insert(&definition.key, Assignment { values, old: None });
    }

    /// Adds uses of old names.
    pub(crate) fn add_renamings(&mut self, renamings: impl IntoIterator<Item = Renaming>) {
        self.renamings.extend(renamings);
    }

    /// Sets the setting `name` to the `values` of a source, after a check.
    ///
    /// An old name or value counts as the current one, and is added to the renamings.
    ///
    /// # Errors [`SettingsError`] if a value is invalid, or if the source has set the setting by
    /// another name.
    pub(crate) fn insert(
        &mut self,
        kind: SourceKind<'_>,
        name: &SettingName,
        values: Vec<String>,
    ) -> Result<(), SettingsError> {
        let SettingName { definition, old } = *name;
        let previous = self.assignments.get(definition.key.as_str());
        if let Some(old) = previous.and_then(|previous| old.or(previous.old)) {
            return Err(SettingsError::SetTwice {
                place: kind.to_string(),
                old: SettingName { definition, old: Some(old) }.spelled(kind),
                new: SettingName { definition, old: None }.spelled(kind),
            });
        }
        let written = name.spelled(kind);
        let values = self.current_values(kind, name, values)?;
        definition.check(&kind.to_string(), &written, &values)?;
        let values = values.into_iter().map(|value| definition.without_unit(value)).collect();
        self.assignments.insert(&definition.key, Assignment { values, old });
        Ok(())
    }

    /// Returns the values that the current name has, and adds renamings.
    fn current_values(
        &mut self,
        kind: SourceKind<'_>,
        name: &SettingName,
        values: Vec<String>,
    ) -> Result<Vec<String>, SettingsError> {
        let (written, key) = (name.spelled(kind), name.definition.key.as_str());
        let current_name = SettingName { old: None, ..*name }.spelled(kind);
        let is_inverted = name.old.is_some_and(|old| old.is_inverted);
        if name.old.is_some() && !is_inverted {
            self.renamings.push(Renaming { old: written.clone(), new: current_name.clone() });
        }
        let mut current = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let new = match value.parse::<bool>() {
                Ok(is_on) if is_inverted => Some((!is_on).to_string()),
                _ => current_value(key, &value).map(str::to_owned),
            };
            if let Some(new) = &new {
                // The old flag of an inverted switch takes no value.
                let is_flag = is_inverted && matches!(kind, SourceKind::CommandLine);
                let old = if is_flag { written.clone() } else { kind.assignment(&written, &value) };
                self.renamings.push(Renaming { old, new: kind.assignment(&current_name, new) });
            }
            let mut value = new.unwrap_or(value);
            if key == "model.source"
                && let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(&value)
            {
                let model = format!("{written}[{index}]");
                let renamings = rename_model_fields(&mut fields, &kind.to_string(), &model)?;
                if !renamings.is_empty() {
                    value = Value::Object(fields).to_string();
                    self.renamings.extend(renamings);
                }
            }
            current.push(value);
        }
        Ok(current)
    }
}

impl fmt::Debug for SourceValues {
    /// Shows the settings without their values, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.assignments.keys()).finish()
    }
}
