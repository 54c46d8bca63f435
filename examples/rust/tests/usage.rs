//! The program says how it is used. What it does with servers is tested in `tests/fleet`.

use std::process::Command;

#[test]
fn help_names_what_can_be_given() {
    let shown = Command::new(env!("CARGO_BIN_EXE_ask")).arg("--help").output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    for option in ["--server", "--image", "--question", "--ca-file", "BLIP_API_KEY"] {
        assert!(text.contains(option), "{text}");
    }
}
