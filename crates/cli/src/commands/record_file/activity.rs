//! What a command does with records.

use crate::target::DefaultModel;

/// The activity of a command on a record file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    /// What is shown beside the progress.
    pub(crate) name: &'static str,
    /// The columns of a CSV output.
    pub(crate) columns: &'static [&'static str],
    /// The error of a command without anything to process.
    pub(crate) nothing_given: &'static str,
    /// The field with the text of a request.
    pub(crate) request_field: &'static str,
    /// The fields that are columns of texts in Parquet files. An option can name that of the first
    /// one.
    pub(crate) column_fields: &'static [&'static str],
    /// The field that text files have, if the command can write them.
    pub(crate) text_field: Option<&'static str>,
    /// The models of the task without a server.
    pub(crate) default_model: DefaultModel,
}
