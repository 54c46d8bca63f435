//! A file of a report. Its extension decides the form.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::commands::{
    capfilt::{markdown::Markdown, report::FilterReport},
    record_file::replace_file,
};

/// The form of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReportForm {
    Markdown,
    Json,
}

/// A file of a report.
#[derive(Clone, Debug)]
pub(crate) struct ReportFile {
    path: PathBuf,
    form: ReportForm,
}

impl ReportFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the report. An existing file is replaced.
    pub(super) fn write(&self, report: &FilterReport) -> anyhow::Result<()> {
        let text = match self.form {
            ReportForm::Markdown => Markdown(report).to_string(),
            ReportForm::Json => format!("{:#}\n", report.to_json()),
        };
        replace_file(&self.path, &text)
            .with_context(|| format!("cannot write the report {}", self.path.display()))
    }
}

/// Parses the name of a report file.
pub(super) fn parse_report_file(name: &str) -> Result<ReportFile, String> {
    let extension = Path::new(name).extension().map(|extension| extension.to_ascii_lowercase());
    let form = match extension.as_ref().and_then(|extension| extension.to_str()) {
        Some("md") => ReportForm::Markdown,
        Some("json") => ReportForm::Json,
        _ => return Err("must end in .md or .json".to_owned()),
    };
    Ok(ReportFile { path: PathBuf::from(name), form })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_decides_the_form() {
        let form = |name: &str| parse_report_file(name).map(|file| file.form);
        assert_eq!(form("a/report.MD"), Ok(ReportForm::Markdown));
        assert_eq!(form("report.json"), Ok(ReportForm::Json));
        for name in ["report", "report.txt", ".md"] {
            assert_eq!(form(name), Err("must end in .md or .json".to_owned()));
        }
    }
}
