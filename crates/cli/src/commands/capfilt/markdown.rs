//! The report as Markdown.

use std::fmt::{self, Display, Formatter};

use crate::commands::capfilt::{
    report::{FilterReport, SampleText},
    sample::Sample,
};

/// Length of the longest bar of a histogram, in characters.
const BAR_CHARS: u64 = 20;

/// Displays a report as Markdown.
#[derive(Debug)]
pub(super) struct Markdown<'a>(pub(super) &'a FilterReport);

impl Display for Markdown<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let FilterReport { threshold, records, failed, without_web_text, web, synthetic, .. } = self.0;
        writeln!(out, "# CapFilt report\n")?;
        writeln!(out, "A text passes if its probability to describe the image is above {threshold}.\n")?;
        writeln!(out, "| records | number |\n| --- | ---: |")?;
        writeln!(out, "| all | {records} |\n| failed | {failed} |")?;
        writeln!(out, "| without web text | {without_web_text} |")?;
        if self.0.shards_without_output > 0 {
            writeln!(out, "\n{} shards have no output.", self.0.shards_without_output)?;
        }

        writeln!(out, "\n| texts | web | synthetic |\n| --- | ---: | ---: |")?;
        let totals = [web, synthetic].map(|source| source.passed + source.dropped + source.rejected);
        for (name, counts) in [
            ("passed", [web.passed, synthetic.passed]),
            ("dropped", [web.dropped, synthetic.dropped]),
            ("rejected by the server", [web.rejected, synthetic.rejected]),
        ] {
            let [web, synthetic] = [0, 1].map(|at: usize| share(counts.get(at), totals.get(at)));
            writeln!(out, "| {name} | {web} | {synthetic} |")?;
        }

        writeln!(out, "\n## Probabilities\n")?;
        writeln!(out, "| probability | web | | synthetic | |\n| --- | ---: | --- | ---: | --- |")?;
        let largest =
            [web, synthetic].map(|source| source.probabilities.bins().map(|(_, count)| count).max());
        let largest = largest.map(Option::unwrap_or_default);
        for (((from, to), web), (_, synthetic)) in
            web.probabilities.bins().zip(synthetic.probabilities.bins())
        {
            let [web_bar, synthetic_bar] = [bar(web, largest[0]), bar(synthetic, largest[1])];
            writeln!(out, "| {from:.2} to {to:.2} | {web} | {web_bar} | {synthetic} | {synthetic_bar} |")?;
        }

        writeln!(out, "\n## Random samples")?;
        for (title, sample) in [
            ("Web texts that passed", &web.passed_sample),
            ("Web texts that were dropped", &web.dropped_sample),
            ("Synthetic texts that passed", &synthetic.passed_sample),
            ("Synthetic texts that were dropped", &synthetic.dropped_sample),
        ] {
            write_sample(out, title, sample)?;
        }
        Ok(())
    }
}

fn write_sample(out: &mut Formatter<'_>, title: &str, sample: &Sample<SampleText>) -> fmt::Result {
    writeln!(out, "\n### {title}\n")?;
    let texts = sample.items();
    if texts.is_empty() {
        return writeln!(out, "None.");
    }
    writeln!(out, "| record | text | probability |\n| --- | --- | ---: |")?;
    for text in texts {
        let SampleText { record, text, probability } = text;
        writeln!(out, "| {} | {} | {probability:.4} |", cell(record), cell(text))?;
    }
    Ok(())
}

/// Returns a count with its share in percent.
fn share(count: Option<&u64>, total: Option<&u64>) -> String {
    let (count, total) = (count.copied().unwrap_or_default(), total.copied().unwrap_or_default());
    #[expect(clippy::cast_precision_loss, reason = "counts of texts")]
    let percent = 100.0 * count as f64 / total.max(1) as f64;
    format!("{count} ({percent:.1}%)")
}

/// Returns a bar. Every count above 0 is visible.
fn bar(count: u64, largest: u64) -> String {
    let length = u128::from(count) * u128::from(BAR_CHARS) / u128::from(largest.max(1));
    let length = usize::try_from(length).unwrap_or_default().max(usize::from(count > 0));
    "█".repeat(length)
}

/// Returns a text as a cell of a table that shows its characters as they are.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for character in text.chars() {
        match character {
            character if character.is_control() => cell.push(' '),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '~' | '#' | '!' => {
                cell.extend(['\\', character]);
            }
            character => cell.push(character),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::capfilt::report::tests::report;

    #[test]
    fn markdown_has_counts_histogram_and_escaped_samples() {
        let mut report = report();
        report.shards_without_output = 2;
        let text = Markdown(&report).to_string();
        for line in [
            "| failed | 1 |",
            "2 shards have no output.",
            "| passed | 0 (0.0%) | 2 (66.7%) |",
            "| rejected by the server | 1 (50.0%) | 0 (0.0%) |",
            "| 0.25 to 0.30 | 1 | ████████████████████ | 0 |  |",
            "| 7 | a \\| cat here | 0.2500 |",
            "| data:image/png;base64,... | \\*a\\* ring | 0.7500 |",
            "None.",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let bins = text.lines().filter(|line| line.starts_with("| 0.") && line.contains(" to "));
        assert_eq!(bins.count(), 20, "{text}");
    }

    #[test]
    fn bar_of_a_small_count_is_visible() {
        assert_eq!([bar(0, 0), bar(0, 9), bar(1, 1_000_000)].map(|bar| bar.chars().count()), [0, 0, 1]);
        assert_eq!(bar(u64::MAX, u64::MAX).chars().count(), 20);
    }
}
