//! Tests over every single setting: which source wins, and that what is printed says the same when it is read again.

use std::ffi::OsString;

use clap::{Args as _, Command, FromArgMatches as _};
use config::FileFormat;
use proptest::{prelude::*, sample::Index};

use super::*;

/// Texts of which every setting can have two at least, but for switches.
const TEXTS: &[&str] = &[
    "cpu",
    "cuda:1",
    "f16",
    "bf16",
    "127.0.0.1:1",
    "[::1]:2",
    "10.0.0.0/8",
    "192.168.7.0/24",
    "example.org",
    "*.example.com",
    "a/b.pem",
    "/etc/a b.toml",
    "correct-horse",
    "battery-staple",
    "7",
    "11",
    "13",
    "4097",
    "0.25",
    "0.5",
    "off",
    "auto",
    "int8",
    "own",
    "libtorch",
    "https://example.org",
    "https://example.com:8443",
    "grpc",
    "http/protobuf",
    "vqa=lists/vqa.txt",
    "colours=lists/colours.json",
    "hf",
    "salesforce",
    "# \"quoted\" = \\ 'text' \n[fetch]",
];

/// Those of `texts` that a setting can have.
fn possible<'a>(definition: &'static Definition, texts: &[&'a str]) -> Vec<&'a str> {
    let possible = |text: &&&str| definition.check("", "", &[(**text).to_owned()]).is_ok();
    texts.iter().filter(possible).copied().collect()
}

/// The values of a setting, as a file has them.
fn written(definition: &Definition, values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| toml::Value::from(*value).to_string()).collect();
    let value = if definition.is_list() { format!("[{}]", quoted.join(",")) } else { quoted.concat() };
    format!("{}.{} = {value}\n", definition.section(), definition.name())
}

fn file(text: &str) -> Option<(String, Layer)> {
    Some(("a.toml".to_owned(), parse_file("a.toml", FileFormat::Toml, text).unwrap()))
}

fn variable(definition: &Definition, value: &str) -> Layer {
    let variable = (OsString::from(&definition.variable), OsString::from(value));
    environment([variable], &[]).unwrap()
}

/// What the program makes of one flag.
fn flag(definition: &Definition, value: &str) -> Layer {
    let flag = match definition.kind {
        Kind::Switch => format!("--{}", definition.flag()),
        _ => format!("--{}={value}", definition.flag()),
    };
    let command = Flags::augment_args(Command::new("blip-serve").no_binary_name(true));
    Flags::from_arg_matches(&command.try_get_matches_from([flag]).unwrap()).unwrap().into_layer()
}

/// What `layers` make of a setting. The settings of TLS want one another, so their whole is not asked for.
fn value_of(layers: &Layers, definition: &'static Definition) -> (Vec<String>, Origin) {
    let effective = layers.effective(definition);
    (effective.values.unwrap_or_default(), effective.origin)
}

#[test]
fn of_every_setting_the_flag_beats_the_variable_that_beats_the_file_that_beats_the_default() {
    for definition in definitions() {
        let (in_file, in_environment, on_line) = match possible(definition, TEXTS).as_slice() {
            _ if definition.kind == Kind::Switch => ("true", "false", "true"),
            [first, second, rest @ ..] => (*first, *second, rest.first().copied().unwrap_or(first)),
            few => panic!("TEXTS needs another value of {}, it has {few:?}", definition.key),
        };
        let mut layers = Layers::default();
        assert_eq!(
            value_of(&layers, definition),
            (definition.default().unwrap_or_default(), Origin::Default)
        );
        layers.file = file(&written(definition, &[in_file]));
        let origin = Origin::File("a.toml".to_owned());
        assert_eq!(value_of(&layers, definition), (vec![in_file.to_owned()], origin));
        layers.environment = variable(definition, in_environment);
        let origin = Origin::Environment(definition.variable.clone());
        assert_eq!(value_of(&layers, definition), (vec![in_environment.to_owned()], origin));
        layers.flags = flag(definition, on_line);
        let origin = Origin::Flag(format!("--{}", definition.flag()));
        assert_eq!(value_of(&layers, definition), (vec![on_line.to_owned()], origin));
    }
}

#[test]
fn of_every_setting_a_value_reaches_the_program_from_every_source() {
    let tls = "tls.cert_file = 'c'\ntls.key_file = 'k'\n";
    for definition in definitions() {
        let default = definition.default().unwrap_or_default();
        let candidates = possible(definition, TEXTS);
        let changed =
            |value: &&str| definition.kind != Kind::Switch && !default.contains(&(**value).to_owned());
        let value = candidates.into_iter().find(changed).unwrap_or("true");
        let beside = if definition.section() == "tls" { tls } else { "" };
        let others: String =
            beside.lines().filter(|line| !line.starts_with(&definition.key)).collect::<Vec<_>>().join("\n");
        let from = |layers: Layers| format!("{:?}", layers.resolve().unwrap().settings);
        let without = format!("{:?}", Settings::default());
        let from_file = from(Layers {
            file: file(&format!("{}{others}", written(definition, &[value]))),
            ..Layers::default()
        });
        let from_environment = from(Layers {
            file: file(&others),
            environment: variable(definition, value),
            ..Layers::default()
        });
        let from_flag =
            from(Layers { file: file(&others), flags: flag(definition, value), ..Layers::default() });
        assert_ne!(from_file, without, "{}", definition.key);
        assert_eq!(from_environment, from_file, "{}", definition.key);
        assert_eq!(from_flag, from_file, "{}", definition.key);
    }
}

#[test]
fn a_switch_that_is_on_below_can_be_turned_off_above() {
    let off = definition("fetch.off").unwrap();
    let layers = Layers { file: file("fetch.off = true"), ..Layers::default() };
    assert!(layers.resolve().unwrap().settings.fetch.fetch_off);
    let layers = Layers { environment: variable(off, "false"), ..layers };
    assert!(!layers.resolve().unwrap().settings.fetch.fetch_off);
}

#[test]
fn an_empty_list_replaces_the_default() {
    let ports = |text| {
        let layers = Layers { file: file(text), ..Layers::default() };
        layers.resolve().unwrap().settings.fetch.fetch_allow_ports
    };
    assert_eq!(ports(""), [80, 443]);
    assert_eq!(ports("fetch.allow_ports = []"), Vec::<u16>::new());
    assert_eq!(ports("fetch.allow_ports = [8080]"), [8080]);
}

#[test]
fn settings_that_belong_together_may_come_from_different_sources() {
    let certificate = definition("tls.cert_file").unwrap();
    let mut layers = Layers { flags: flag(certificate, "c.pem"), ..Layers::default() };
    let told = layers.resolve().unwrap_err().to_string();
    assert!(told.contains("--tls-key-file") && !told.contains('\n'), "{told}");
    layers.file = file("tls.key_file = 'k.pem'");
    let settings = layers.resolve().unwrap().settings;
    assert_eq!(settings.tls.tls_key_file.unwrap().to_str(), Some("k.pem"));
}

proptest! {
    #[test]
    fn what_is_printed_says_the_same_when_it_is_read_again(
        texts in proptest::collection::vec(prop_oneof![
            any::<u64>().prop_map(|number| number.to_string()),
            any::<u16>().prop_map(|number| number.to_string()),
            (0.0..=1.0_f64).prop_map(|ratio| ratio.to_string()),
            any::<(std::net::SocketAddr, bool)>().prop_map(|(address, _)| address.to_string()),
            any::<(std::net::IpAddr, u8)>().prop_map(|(address, bits)| format!("{address}/{}", bits % 33)),
            "\\PC{1,12}",
            proptest::sample::select(TEXTS).prop_map(str::to_owned),
        ], 24),
        picks in proptest::collection::vec((any::<Index>(), 0..4_usize), definitions().len()),
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut layer = Layer::default();
        for (definition, (pick, count)) in definitions().iter().zip(&picks) {
            let possible = possible(definition, &texts);
            // A mask is read again, but is no key: see the tests of printing.
            if *count == 0 || possible.is_empty() || definition.is_secret() {
                continue;
            }
            let count = if definition.is_list() { count - 1 } else { 1 };
            let start = pick.index(possible.len());
            let values = possible.iter().cycle().skip(start).take(count).map(|value| (*value).to_owned());
            layer.set(definition, values.collect());
        }
        let layers = Layers { environment: layer, ..Layers::default() };
        let said: Vec<Effective> =
            definitions().iter().map(|definition| layers.effective(definition)).collect();
        let again = Layers { file: file(&effective_toml(&said)), ..Layers::default() };
        // +3 is printed as 3.
        let value = |effective: Effective| effective_json(&[Effective { origin: Origin::Default, ..effective }]);
        for effective in said {
            prop_assert_eq!(value(again.effective(effective.definition)), value(effective));
        }
        if let (Ok(one), Ok(other)) = (layers.resolve(), again.resolve()) {
            prop_assert_eq!(format!("{:?}", one.settings), format!("{:?}", other.settings));
        }
    }
}
