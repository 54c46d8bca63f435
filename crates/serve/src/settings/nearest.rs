//! Which name was meant.

/// The name among `known` that is most like `name`: one that differs in the section only, or else the one that the
/// fewest keystrokes lead to.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, separator: &str) -> String {
    let last = |name: &str| name.rsplit(separator).next().unwrap_or_default().to_lowercase();
    let keystrokes = |known: &&str| {
        let elsewhere = last(name) == last(known);
        (!elsewhere, strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()))
    };
    known.into_iter().min_by_key(keystrokes).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_slip_away_or_in_another_section() {
        let known = ["grpc.max_message_bytes", "limits.max_image_bytes", "fetch.off"];
        let nearest = |name| nearest(name, known, ".");
        assert_eq!(nearest("grpc.max_mesage_bytes"), "grpc.max_message_bytes");
        assert_eq!(nearest("grpc.max_image_bytes"), "limits.max_image_bytes");
        assert_eq!(nearest("Fetch.Off"), "fetch.off");
        assert_eq!(nearest("fetch"), "fetch.off");
    }
}
