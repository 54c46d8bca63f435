//! The table of the number formats.

use std::fmt;

use serde::Serialize;

use super::{measurement::Measurement, precision::Precision};

/// The measured formats, the reference first.
#[derive(Debug, Default)]
pub(crate) struct Comparison(Vec<(Precision, Result<Measurement, String>)>);

/// A format in the output file.
#[derive(Serialize)]
struct Row<'a> {
    options: String,
    /// Answers that differ from those of the first format.
    changed_answers: Option<usize>,
    #[serde(flatten)]
    measurement: Option<&'a Measurement>,
    error: Option<&'a str>,
}

impl Comparison {
    /// Adds a format, or why it could not be measured.
    pub(super) fn add(&mut self, precision: Precision, measurement: anyhow::Result<Measurement>) {
        self.0.push((precision, measurement.map_err(|error| format!("{error:#}"))));
    }

    /// Returns whether the reference was measured.
    pub(crate) fn has_reference(&self) -> bool {
        self.reference().is_some()
    }

    /// Returns the rows as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        let rows = self.0.iter().map(|(precision, measurement)| Row {
            options: precision.to_string(),
            changed_answers: measurement.as_ref().ok().and_then(|measurement| self.changed(measurement)),
            measurement: measurement.as_ref().ok(),
            error: measurement.as_ref().err().map(String::as_str),
        });
        serde_json::to_string_pretty(&rows.collect::<Vec<_>>())
    }

    fn reference(&self) -> Option<&Measurement> {
        self.0.first()?.1.as_ref().ok()
    }

    /// Returns the number of answers that differ from those of the reference.
    fn changed(&self, measurement: &Measurement) -> Option<usize> {
        let answers = self.reference()?.answers.iter().zip(&measurement.answers);
        Some(answers.filter(|(expected, actual)| expected != actual).count())
    }

    /// Returns the format with the most requests per second of those with at most `max_changed`
    /// changed answers, if it is faster than the reference.
    fn fastest(&self, max_changed: usize) -> Option<(Precision, &Measurement)> {
        let reference = self.reference()?;
        let measured =
            self.0.iter().filter_map(|(precision, measured)| Some((*precision, measured.as_ref().ok()?)));
        measured
            .filter(|(_, measured)| self.changed(measured).is_some_and(|changed| changed <= max_changed))
            .filter(|(_, measured)| measured.requests_per_s > reference.requests_per_s)
            .max_by(|(_, a), (_, b)| a.requests_per_s.total_cmp(&b.requests_per_s))
    }
}

/// Milliseconds, with two decimals if they are few.
fn ms(number: f64) -> String {
    format!("{number:.*} ms", if number < 10.0 { 2 } else { 0 })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:32} {:>10} {:>12} {:>10} {:>11}  changed answers",
            "options", "new image", "cached image", "requests/s", "memory"
        )?;
        for (precision, measurement) in &self.0 {
            write!(f, "{precision:32} ")?;
            let measured = match measurement {
                Ok(measured) => measured,
                Err(reason) => {
                    writeln!(f, "not measured: {reason}")?;
                    continue;
                }
            };
            let Measurement { new_image_ms, cached_image_ms, requests_per_s, resident_bytes, answers } =
                measured;
            let memory =
                resident_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
            let changed = self.changed(measured).map_or_else(|| "-".to_owned(), |count| count.to_string());
            writeln!(
                f,
                "{:>10} {:>12} {requests_per_s:10.2} {memory:>11}  {changed} of {}",
                ms(*new_image_ms),
                ms(*cached_image_ms),
                answers.len(),
            )?;
        }
        let Some(reference) = self.reference() else { return Ok(()) };
        let times = |measured: &Measurement| measured.requests_per_s / reference.requests_per_s;
        let unchanged = self.fastest(0);
        match unchanged {
            Some((precision, measured)) => writeln!(
                f,
                "\nfastest without a changed answer: {precision} ({:.1} times the requests/s of f32)",
                times(measured)
            )?,
            None => writeln!(f, "\nno format is faster than f32 without a changed answer")?,
        }
        match self.fastest(usize::MAX) {
            Some((precision, measured)) if unchanged.is_none_or(|(other, _)| other != precision) => {
                writeln!(f, "fastest: {precision} ({:.1} times)", times(measured))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(requests_per_s: f64, answers: &[&str]) -> anyhow::Result<Measurement> {
        Ok(Measurement {
            new_image_ms: 724.4,
            cached_image_ms: 9.25,
            requests_per_s,
            resident_bytes: Some(1559 << 20),
            answers: answers.iter().map(|&answer| answer.to_owned()).collect(),
        })
    }

    #[test]
    fn table_names_the_options_of_the_fastest_formats() {
        let mut comparison = Comparison::default();
        comparison.add(Precision::F32, measured(1.5, &["red", "two"]));
        comparison.add(Precision::Bf16, measured(3.0, &["red", "two"]));
        comparison.add(Precision::Int8, measured(6.0, &["red", "three"]));
        comparison.add(Precision::Int8Bf16, Err(anyhow::anyhow!("no AVX2")));
        let expected = "\
options                           new image cached image requests/s      memory  changed answers
--dtype f32                          724 ms      9.25 ms       1.50    1559 MiB  0 of 2
--dtype bf16                         724 ms      9.25 ms       3.00    1559 MiB  0 of 2
--dtype int8                         724 ms      9.25 ms       6.00    1559 MiB  1 of 2
--dtype int8 --text-dtype bf16   not measured: no AVX2

fastest without a changed answer: --dtype bf16 (2.0 times the requests/s of f32)
fastest: --dtype int8 (4.0 times)
";
        assert_eq!(comparison.to_string(), expected);
        let rows: serde_json::Value = serde_json::from_str(&comparison.to_json().unwrap()).unwrap();
        assert_eq!(rows[2]["changed_answers"], 1);
        assert_eq!(rows[1]["options"], "--dtype bf16");
        assert_eq!(rows[3]["error"], "no AVX2");
    }

    #[test]
    fn slower_formats_are_not_recommended() {
        let mut comparison = Comparison::default();
        comparison.add(Precision::F32, measured(2.0, &["red"]));
        comparison.add(Precision::Bf16, measured(1.0, &["red"]));
        let text = comparison.to_string();
        assert!(text.ends_with("\nno format is faster than f32 without a changed answer\n"), "{text}");
        let mut failed = Comparison::default();
        failed.add(Precision::F32, Err(anyhow::anyhow!("no such file")));
        failed.add(Precision::Bf16, measured(1.0, &["red"]));
        assert!(!failed.has_reference());
        assert!(failed.to_string().ends_with("- of 1\n"), "{failed}");
    }
}
