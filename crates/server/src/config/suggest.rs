//! Suggestions for unknown names.

/// Returns the name in `known` that is most similar to `name`.
///
/// A name that differs only in the section wins. Otherwise the edit distance decides.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, separator: &str) -> String {
    let last = |name: &str| name.rsplit(separator).next().unwrap_or_default().to_lowercase();
    let distance = |known: &&str| {
        let is_other_section = last(name) == last(known);
        (!is_other_section, strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()))
    };
    known.into_iter().min_by_key(distance).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_has_one_typo_or_another_section() {
        let known = ["grpc.max_message_bytes", "limits.max_image_bytes", "fetch.enabled"];
        let nearest = |name| nearest(name, known, ".");
        assert_eq!(nearest("grpc.max_mesage_bytes"), "grpc.max_message_bytes");
        assert_eq!(nearest("grpc.max_image_bytes"), "limits.max_image_bytes");
        assert_eq!(nearest("Fetch.Enabled"), "fetch.enabled");
        assert_eq!(nearest("fetch"), "fetch.enabled");
    }
}
