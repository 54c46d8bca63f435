//! Old names and values of settings, which stay accepted for two releases.
//!
//! The two tables below define them for every source. A source that uses one yields the same
//! settings as with the new name, and a [`Renaming`] that the program logs as a warning.

use serde_json::{Map, Value};

use crate::config::error::SettingsError;

/// An old name of a setting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OldName {
    /// `section.name`, the old key in a file. The old environment variable follows from it.
    pub(crate) key: &'static str,
    /// The old flag, without the dashes.
    pub(crate) flag: &'static str,
    /// The current key.
    pub(crate) new_key: &'static str,
    /// Whether `true` has become `false`. The old flag then takes no value.
    pub(crate) is_inverted: bool,
}

/// An old value of a setting.
#[derive(Debug)]
pub(crate) struct OldValue {
    /// The key of the setting.
    pub(crate) key: &'static str,
    /// The old value.
    pub(crate) old: &'static str,
    /// The current value.
    pub(crate) new: &'static str,
}

const fn name(key: &'static str, flag: &'static str, new_key: &'static str) -> OldName {
    OldName { key, flag, new_key, is_inverted: false }
}

const fn inverted(key: &'static str, flag: &'static str, new_key: &'static str) -> OldName {
    OldName { key, flag, new_key, is_inverted: true }
}

/// The old names of settings. Fields of `[[models]]` tables are renamed like the keys of `model`.
pub(crate) const OLD_NAMES: &[OldName] = &[
    name("model.flavour", "flavour", "model.conventions"), // check_prose: allow
    name("model.key_value_cache_bytes", "key-value-cache-bytes", "model.cross_attention_cache_bytes"),
    name("grpc.max_held_bytes", "max-held-bytes", "grpc.max_request_memory_bytes"),
    name("grpc.upload_stall_s", "upload-stall-s", "grpc.upload_idle_timeout_s"),
    inverted("grpc.reflection_off", "reflection-off", "grpc.reflection"),
    inverted("fetch.off", "fetch-off", "fetch.enabled"),
    name("fetch.max_held_bytes", "fetch-max-held-bytes", "fetch.max_memory_bytes"),
    name("scheduler.queue_delay_ms", "queue-delay-ms", "scheduler.max_batch_delay_ms"),
    name("scheduler.slo_p95_ms", "slo-p95-ms", "scheduler.target_p95_ms"),
    name("canary.idle_s", "canary-idle-s", "self_test.idle_s"), // check_prose: allow
    inverted("trace.propagation_off", "trace-propagation-off", "trace.propagation"),
];

/// The old values of settings.
pub(crate) const OLD_VALUES: &[OldValue] = &[
    OldValue { key: "model.cpu_kernels", old: "own", new: "native" }, // check_prose: allow
    OldValue { key: "model.cuda_kernels", old: "own", new: "native" }, // check_prose: allow
];

/// One use of an old name or value, spelled as its source spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    /// What the source holds.
    pub old: String,
    /// What it should hold.
    pub new: String,
}

/// Returns the current value of the setting `key` for an old `value`.
pub(crate) fn current_value(key: &str, value: &str) -> Option<&'static str> {
    OLD_VALUES.iter().find(|renamed| (renamed.key, renamed.old) == (key, value)).map(|renamed| renamed.new)
}

/// Returns the current section of settings that were in the section `old`, which no longer exists.
pub(crate) fn current_section(old: &str) -> Option<&'static str> {
    let is_old = |renamed: &&OldName| section_of(renamed.key) == old;
    OLD_NAMES.iter().find(is_old).map(|renamed| section_of(renamed.new_key)).filter(|new| *new != old)
}

fn section_of(key: &str) -> &str {
    key.split('.').next().unwrap_or_default()
}

/// Gives the fields of a model their current names. `model` is its name in the source, such as
/// `models[0]`.
///
/// # Errors
/// [`SettingsError::SetTwice`] if the model has a field by its old and its current name.
pub(crate) fn rename_model_fields(
    fields: &mut Map<String, Value>,
    place: &str,
    model: &str,
) -> Result<Vec<Renaming>, SettingsError> {
    let mut renamings = Vec::new();
    for renamed in OLD_NAMES {
        let (Some(old), Some(new)) =
            (renamed.key.strip_prefix("model."), renamed.new_key.strip_prefix("model."))
        else {
            continue;
        };
        let Some(value) = fields.remove(old) else { continue };
        let renaming = Renaming { old: format!("{model}.{old}"), new: format!("{model}.{new}") };
        if fields.insert(new.to_owned(), value).is_some() {
            let Renaming { old, new } = renaming;
            return Err(SettingsError::SetTwice { place: place.to_owned(), old, new });
        }
        renamings.push(renaming);
    }
    Ok(renamings)
}
