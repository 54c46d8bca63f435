//! Printed settings yield the same settings when they are read.

use proptest::{prelude::*, sample::Index};

use super::*;

proptest! {
    #[test]
    fn printed_settings_are_read_back_unchanged(
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
        let mut values = SourceValues::default();
        for (definition, (pick, count)) in definitions().iter().zip(&picks) {
            let valid = valid(definition, &texts);
            // A masked secret is not read back, see the tests of printing.
            if *count == 0 || valid.is_empty() || definition.is_secret() {
                continue;
            }
            let count = if definition.is_list() { count - 1 } else { 1 };
            let start = pick.index(valid.len());
            let picked = valid.iter().cycle().skip(start).take(count);
            // All sources remove units, and white space around numbers with a unit.
            let picked = picked.map(|value| definition.without_unit((*value).to_owned()));
            values.set(definition, picked.collect());
        }
        let sources = Sources { environment: values, ..Sources::default() };
        let printed: Vec<ResolvedSetting> =
            definitions().iter().map(|definition| sources.effective(definition)).collect();
        let read = Sources { file: file(&effective_toml(&printed)).unwrap(), ..Sources::default() };
        // JSON compares numbers: +3 is printed as 3.
        let value = |setting: ResolvedSetting| {
            effective_json(&[ResolvedSetting { origin: Origin::Default, ..setting }])
        };
        for setting in printed {
            prop_assert_eq!(value(read.effective(setting.definition)), value(setting));
        }
        if let (Ok(one), Ok(other)) = (sources.resolve(), read.resolve()) {
            prop_assert_eq!(format!("{:?}", one.settings), format!("{:?}", other.settings));
        }
    }
}
