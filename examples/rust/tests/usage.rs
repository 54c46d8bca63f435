//! Tests the help text. `tests/fleet` tests the program with servers.

use std::process::Command;

#[test]
fn help_names_every_option() {
    let output = Command::new(env!("CARGO_BIN_EXE_ask")).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for option in ["--server", "--image", "--question", "--ca-file", "BLIP_API_KEY"] {
        assert!(text.contains(option), "{text}");
    }
}
