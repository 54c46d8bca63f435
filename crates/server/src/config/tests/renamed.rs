//! Every old name and value works in every source, and is reported with the current one.

use super::*;
use crate::config::{
    renamed::{OLD_NAMES, OLD_VALUES, OldName},
    schema::variable_of,
};

/// Returns the settings of some sources, and the uses of old names in them.
fn resolved(sources: Sources) -> (String, Vec<Renaming>) {
    let resolved = sources.resolve().unwrap();
    (format!("{:?}", resolved.settings), resolved.renamings)
}

fn from_file(text: &str) -> (String, Vec<Renaming>) {
    resolved(Sources { file: file(text).unwrap(), ..Sources::default() })
}

fn from_variable(name: &str, value: &str) -> (String, Vec<Renaming>) {
    resolved(Sources { environment: variable(name, value).unwrap(), ..Sources::default() })
}

fn from_flag(flag: &str) -> (String, Vec<Renaming>) {
    resolved(Sources { flags: command_line([flag]).unwrap(), ..Sources::default() })
}

fn renaming(old: impl Into<String>, new: impl Into<String>) -> Vec<Renaming> {
    vec![Renaming { old: old.into(), new: new.into() }]
}

/// Returns the setting of an old name, a value that differs from the default, and the value of the
/// old name that means the same.
fn changed_values(renamed: &OldName) -> (&'static Definition, &'static str, &'static str) {
    let definition = definition(renamed.new_key).expect("the table names settings");
    let new = changed(definition);
    let old = match (renamed.is_inverted, new) {
        (true, "true") => "false",
        (true, _) => "true",
        (false, value) => value,
    };
    (definition, new, old)
}

#[test]
fn old_names_are_unique_and_no_current_names() {
    for (index, renamed) in OLD_NAMES.iter().enumerate() {
        assert!(definition(renamed.key).is_none(), "{renamed:?}");
        assert!(definitions().iter().all(|definition| definition.flag() != renamed.flag), "{renamed:?}");
        let others = OLD_NAMES.iter().skip(index + 1);
        assert!(others.clone().all(|other| other.key != renamed.key && other.flag != renamed.flag));
        let (definition, ..) = changed_values(renamed);
        assert_eq!(renamed.is_inverted, definition.kind == Kind::Switch, "{renamed:?}");
        assert!(!definition.is_list(), "{renamed:?}");
    }
    for renamed in OLD_VALUES {
        let definition = definition(renamed.key).unwrap();
        assert!(definition.parse(renamed.new).is_ok(), "{renamed:?}");
        assert!(!definition.value_name().unwrap().split('|').any(|value| value == renamed.old));
    }
}

#[test]
fn old_name_equals_the_current_one_in_every_source() {
    for renamed in OLD_NAMES {
        let (definition, new, old) = changed_values(renamed);
        let (old_variable, variable) = (variable_of(renamed.key), &definition.variable);
        let (expected, none) = from_file(&line(definition, &definition.key, &[new]));
        assert_eq!(none, []);

        let (settings, renamings) = from_file(&line(definition, renamed.key, &[old]));
        assert_eq!(settings, expected, "{renamed:?}");
        assert_eq!(
            renamings,
            match renamed.is_inverted {
                true => renaming(format!("{} = {old}", renamed.key), format!("{} = {new}", definition.key)),
                false => renaming(renamed.key, &*definition.key),
            }
        );

        let (settings, renamings) = from_variable(&old_variable, old);
        assert_eq!(settings, expected, "{renamed:?}");
        assert_eq!(
            renamings,
            match renamed.is_inverted {
                true => renaming(format!("{old_variable}={old}"), format!("{variable}={new}")),
                false => renaming(&*old_variable, &**variable),
            }
        );

        let old_flag = format!("--{}", renamed.flag);
        let written = if renamed.is_inverted { old_flag.clone() } else { format!("{old_flag}={old}") };
        let (settings, renamings) = from_flag(&written);
        assert_eq!(settings, expected, "{renamed:?}");
        assert_eq!(
            renamings,
            match renamed.is_inverted {
                true => renaming(old_flag, format!("--{}={new}", definition.flag())),
                false => renaming(old_flag, format!("--{}", definition.flag())),
            }
        );
    }
}

#[test]
fn old_value_equals_the_current_one_in_every_source() {
    for renamed in OLD_VALUES {
        let definition = definition(renamed.key).unwrap();
        let (expected, none) = from_file(&line(definition, &definition.key, &[renamed.new]));
        assert_eq!(none, []);

        let (settings, renamings) = from_file(&line(definition, &definition.key, &[renamed.old]));
        assert_eq!(settings, expected);
        let assigned = |value: &str| format!("{} = {value}", definition.key);
        assert_eq!(renamings, renaming(assigned(renamed.old), assigned(renamed.new)));

        let (settings, renamings) = from_variable(&definition.variable, renamed.old);
        assert_eq!(settings, expected);
        let assigned = |value: &str| format!("{}={value}", definition.variable);
        assert_eq!(renamings, renaming(assigned(renamed.old), assigned(renamed.new)));

        let (settings, renamings) = from_flag(&flag(definition, renamed.old));
        assert_eq!(settings, expected);
        assert_eq!(renamings, renaming(flag(definition, renamed.old), flag(definition, renamed.new)));
    }
}

#[test]
fn old_and_current_name_in_one_source_are_an_error() {
    for renamed in OLD_NAMES {
        let (definition, new, old) = changed_values(renamed);
        let both =
            [(renamed.key, old), (&*definition.key, new)].map(|(key, value)| line(definition, key, &[value]));
        let error = file(&both.concat()).unwrap_err().to_string();
        let expected = |place: &str, old: &str, new: &str| {
            format!("{place}: both {old} and {new} are set: {old} is the old name of {new}")
        };
        assert_eq!(error, expected("a.toml", renamed.key, &definition.key));

        let old_variable = variable_of(renamed.key);
        for variables in [[&old_variable, &definition.variable], [&definition.variable, &old_variable]] {
            let variables = variables.map(|name| (name.into(), new.into()));
            let error = environment(variables, &[]).unwrap_err().to_string();
            assert_eq!(error, expected("environment", &old_variable, &definition.variable));
        }

        let old_flag = if renamed.is_inverted { String::new() } else { format!("={old}") };
        let old_flag = format!("--{}{old_flag}", renamed.flag);
        let error = command_line([flag(definition, new).as_str(), &old_flag]).unwrap_err();
        let (old_flag, new_flag) = (format!("--{}", renamed.flag), format!("--{}", definition.flag()));
        assert_eq!(one_line(&error), expected("command line", &old_flag, &new_flag));
    }
}

#[test]
fn old_name_in_a_stronger_source_wins() {
    let sources = Sources {
        file: file("fetch.enabled = true").unwrap(),
        environment: variable("BLIP_SERVE__FETCH__OFF", "true").unwrap(),
        ..Sources::default()
    };
    let effective = sources.effective(definition("fetch.enabled").unwrap());
    assert_eq!(effective.values.as_deref(), Some(["false".to_owned()].as_slice()));
    assert_eq!(effective.origin, Origin::Environment("BLIP_SERVE__FETCH__OFF".to_owned()));
}

#[test]
fn invalid_value_of_an_old_name_is_reported_by_that_name() {
    let error = file("[fetch]\noff = 3").unwrap_err().to_string();
    assert_eq!(error, "a.toml: invalid fetch.off: 3, expected true or false");
    let error = variable("BLIP_SERVE__FETCH__OFF", "maybe").unwrap_err().to_string();
    assert_eq!(error, "environment: invalid BLIP_SERVE__FETCH__OFF: \"maybe\", expected true or false");
    let error = one_line(&command_line(["--queue-delay-ms=soon"]).unwrap_err());
    assert!(error.contains("--queue-delay-ms") && error.contains("soon"), "{error}");
}

#[test]
fn invalid_kernels_are_reported_with_the_current_values() {
    let error = one_line(&command_line(["--cpu-kernels=fast"]).unwrap_err());
    assert!(error.contains("fast") && error.contains("auto, native or libtorch"), "{error}");
}

#[test]
fn old_fields_of_models_are_renamed() {
    let old = r#"source = 'demo', "flavour" = 'salesforce', key_value_cache_bytes = 7"#;
    let new = "source = 'demo', conventions = 'salesforce', cross_attention_cache_bytes = 7";
    let (settings, renamings) = from_file(&format!("models = [{{ source = 'a' }}, {{ {old} }}]"));
    assert_eq!(settings, from_file(&format!("models = [{{ source = 'a' }}, {{ {new} }}]")).0);
    let fields = [("flavour", "conventions"), ("key_value_cache_bytes", "cross_attention_cache_bytes")];
    let expected =
        fields.map(|(old, new)| renaming(format!("models[1].{old}"), format!("models[1].{new}"))).concat();
    assert_eq!(renamings, expected);

    let (settings, renamings) =
        from_file(r#"model.source = ['{"source": "demo", "flavour": "salesforce"}', '{"source": "a"}']"#);
    let (expected, none) =
        from_file(r#"model.source = ['{"source": "demo", "conventions": "salesforce"}', '{"source": "a"}']"#);
    assert_eq!((settings, none), (expected, vec![]));
    assert_eq!(renamings, renaming("model.source[0].flavour", "model.source[0].conventions"));

    let error = file(r#"models = [{ source = 'a', "flavour" = 'hf', conventions = 'hf' }]"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.toml: both models[0].flavour and models[0].conventions are set: \
         models[0].flavour is the old name of models[0].conventions"
    );
}

#[test]
fn empty_old_section_is_renamed() {
    let (_, renamings) = from_file("[canary]\n# idle_s = 3"); // check_prose: allow
    assert_eq!(renamings, renaming("[canary]", "[self_test]")); // check_prose: allow
    let error = file("canary = 3").unwrap_err().to_string(); // check_prose: allow
    assert!(error.ends_with("a single value, expected a table of settings"), "{error}");
}

#[test]
fn suggestion_is_a_current_name() {
    let error = variable("BLIP_SERVE__FETCH__OF", "true").unwrap_err().to_string();
    let (_, suggestion) = error.split_once("did you mean ").unwrap();
    assert!(
        definitions().iter().any(|definition| format!("{}?", definition.variable) == suggestion),
        "{error}"
    );
    let error = file("[grpc]\nmax_held_byte = 3").unwrap_err().to_string();
    assert!(error.ends_with("did you mean grpc.max_header_bytes?"), "{error}");
}
