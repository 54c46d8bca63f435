//! Which source wins, and whether every value of every source reaches the program.

use super::*;

/// Returns the value of one setting. Settings that require others are not resolved as a whole.
fn value_of(sources: &Sources, definition: &'static Definition) -> (Vec<String>, Origin) {
    let effective = sources.effective(definition);
    (effective.values.unwrap_or_default(), effective.origin)
}

#[test]
fn precedence_is_flag_env_file_default() {
    for definition in definitions() {
        let (in_file, in_environment, on_line) = match valid(definition, TEXTS).as_slice() {
            _ if definition.kind == Kind::Switch => ("true", "false", "true"),
            [first, second, rest @ ..] => (*first, *second, rest.first().copied().unwrap_or(first)),
            few => panic!("TEXTS needs another value of {}, it has {few:?}", definition.key),
        };
        let mut sources = Sources::default();
        let default = (definition.default().unwrap_or_default(), Origin::Default);
        assert_eq!(value_of(&sources, definition), default);

        sources.file = file(&line(definition, &definition.key, &[in_file])).unwrap();
        let origin = Origin::File("a.toml".to_owned());
        assert_eq!(value_of(&sources, definition), (vec![in_file.to_owned()], origin));

        sources.environment = variable(&definition.variable, in_environment).unwrap();
        let origin = Origin::Environment(definition.variable.clone());
        assert_eq!(value_of(&sources, definition), (vec![in_environment.to_owned()], origin));

        sources.flags = command_line([flag(definition, on_line).as_str()]).unwrap();
        let origin = Origin::Flag(format!("--{}", definition.flag()));
        assert_eq!(value_of(&sources, definition), (vec![on_line.to_owned()], origin));
    }
}

#[test]
fn every_source_sets_every_setting() {
    let tls = ["tls.cert_file = 'c'", "tls.key_file = 'k'"];
    let default = format!("{:?}", Settings::default());
    for definition in definitions() {
        let value = changed(definition);
        let is_required = |line: &&str| definition.section() == "tls" && !line.starts_with(&definition.key);
        let required = tls.into_iter().filter(is_required).collect::<Vec<_>>().join("\n");
        let settings = |sources: Sources| format!("{:?}", sources.resolve().unwrap().settings);
        let written = format!("{}{required}", line(definition, &definition.key, &[value]));
        let from_file = settings(Sources { file: file(&written).unwrap(), ..Sources::default() });
        let from_environment = settings(Sources {
            file: file(&required).unwrap(),
            environment: variable(&definition.variable, value).unwrap(),
            ..Sources::default()
        });
        let from_flag = settings(Sources {
            file: file(&required).unwrap(),
            flags: command_line([flag(definition, value).as_str()]).unwrap(),
            ..Sources::default()
        });
        assert_ne!(from_file, default, "{}", definition.key);
        assert_eq!(from_environment, from_file, "{}", definition.key);
        assert_eq!(from_flag, from_file, "{}", definition.key);
    }
}

#[test]
fn stronger_source_switches_off_and_on() {
    let is_on = |sources: &Sources, key: &str| {
        let settings = sources.resolve().unwrap().settings;
        if key == "fetch.enabled" { settings.fetch.fetch_enabled } else { settings.auth.insecure }
    };
    for key in ["fetch.enabled", "auth.insecure"] {
        let variable_name = &definition(key).unwrap().variable;
        for value in [true, false] {
            let mut sources =
                Sources { file: file(&format!("{key} = {value}")).unwrap(), ..Sources::default() };
            assert_eq!(is_on(&sources, key), value);
            sources.environment = variable(variable_name, &(!value).to_string()).unwrap();
            assert_eq!(is_on(&sources, key), !value);
        }
    }
}

#[test]
fn flag_of_a_switch_that_is_on_takes_an_optional_value() {
    for (flag, expected) in [("--fetch", true), ("--fetch=true", true), ("--fetch=false", false)] {
        let flags = command_line([flag]).unwrap();
        let sources = Sources {
            environment: variable("BLIP_SERVE__FETCH__ENABLED", "false").unwrap(),
            flags,
            ..Sources::default()
        };
        assert_eq!(sources.resolve().unwrap().settings.fetch.fetch_enabled, expected, "{flag}");
    }
    // The value needs the equals sign, so it is not a positional argument.
    assert!(command_line(["--fetch", "false"]).is_err());
    assert!(command_line(["--fetch=no"]).is_err());
}

#[test]
fn empty_list_replaces_the_default() {
    let ports = |text| {
        let sources = Sources { file: file(text).unwrap(), ..Sources::default() };
        sources.resolve().unwrap().settings.fetch.fetch_allow_ports
    };
    assert_eq!(ports(""), [80, 443]);
    assert_eq!(ports("fetch.allow_ports = []"), Vec::<u16>::new());
    assert_eq!(ports("fetch.allow_ports = [8080]"), [8080]);
}

#[test]
fn required_settings_may_come_from_another_source() {
    let mut sources =
        Sources { flags: command_line(["--tls-cert-file=c.pem"]).unwrap(), ..Sources::default() };
    let error = sources.resolve().unwrap_err().to_string();
    assert!(error.contains("--tls-key-file") && !error.contains('\n'), "{error}");
    sources.file = file("tls.key_file = 'k.pem'").unwrap();
    let settings = sources.resolve().unwrap().settings;
    assert_eq!(settings.tls.tls_key_file.unwrap().to_str(), Some("k.pem"));
}
