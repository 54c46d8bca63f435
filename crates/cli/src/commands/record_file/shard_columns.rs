//! The columns of Parquet files for a command.

use bulk::{Location, ResultColumn, ShardColumns, TextColumn, ValueType};
use clap::Args;

use crate::commands::record_file::activity::Activity;

/// The types of result fields. A column of results has the fields that a CSV output has.
const RESULT_COLUMNS: [ResultColumn; 9] = [
    ResultColumn::text("answer"),
    ResultColumn::text("caption"),
    ResultColumn { name: "score", value_type: ValueType::Float },
    ResultColumn { name: "margin", value_type: ValueType::Float },
    ResultColumn { name: "probability", value_type: ValueType::Float },
    ResultColumn { name: "cosine", value_type: ValueType::Float },
    ResultColumn { name: "embedding", value_type: ValueType::List(&ValueType::Float) },
    ResultColumn { name: "passed_texts", value_type: ValueType::List(&ValueType::Text) },
    ResultColumn { name: "scored_texts", value_type: ValueType::List(&ValueType::Struct(&SCORED_TEXT)) },
];

/// The fields of a scored text.
const SCORED_TEXT: [ResultColumn; 5] = [
    ResultColumn::text("text"),
    ResultColumn::text("source"),
    ResultColumn { name: "probability", value_type: ValueType::Float },
    ResultColumn { name: "passed", value_type: ValueType::Boolean },
    ResultColumn::ERROR,
];

/// The columns of Parquet files.
#[derive(Args, Debug)]
pub(crate) struct ColumnArgs {
    /// Column of images in Parquet files [default: image, img or jpg]
    ///
    /// It has images as the library datasets writes them (bytes and path), bytes, or paths relative
    /// to the file or URLs.
    #[arg(long, value_name = "NAME", requires = "input")]
    image_column: Option<String>,

    /// Column of texts in Parquet files [default: question, prompt or text]
    ///
    /// ask reads question, caption reads prompt, match, embed and capfilt read text.
    #[arg(long, value_name = "NAME", requires = "input")]
    text_column: Option<String>,
}

impl ColumnArgs {
    /// Checks that a column is named only with Parquet files among `shards`. The extension of a
    /// shard decides its format.
    ///
    /// # Errors
    /// A named column without Parquet files.
    pub(crate) fn check(&self, shards: &[Location]) -> anyhow::Result<()> {
        anyhow::ensure!(
            (self.image_column.is_none() && self.text_column.is_none())
                || shards.iter().any(|shard| shard.has_extension("parquet")),
            "--image-column and --text-column are for Parquet files"
        );
        Ok(())
    }

    /// Returns the columns that a command reads and writes.
    pub(crate) fn shard_columns(&self, activity: Activity) -> ShardColumns {
        let text = |(at, field): (usize, &&'static str)| {
            let named = self.text_column.clone().filter(|_| at == 0);
            let is_required = named.is_some();
            TextColumn { name: named.unwrap_or_else(|| (*field).to_owned()), field, is_required }
        };
        let texts = activity.column_fields.iter().enumerate().map(text).collect();
        ShardColumns { image: self.image_column.clone(), texts, results: result_columns(activity) }
    }
}

/// Returns the fields of the column with the results of a command.
pub(crate) fn result_columns(activity: Activity) -> Vec<ResultColumn> {
    RESULT_COLUMNS.iter().filter(|column| activity.columns.contains(&column.name)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{records::RESULT_FIELDS, target::DefaultModel};

    fn activity(column_fields: &'static [&'static str], columns: &'static [&'static str]) -> Activity {
        Activity {
            name: "testing",
            columns,
            nothing_given: "",
            request_field: "prompt",
            column_fields,
            text_field: None,
            default_model: DefaultModel::CaptionAndMatch,
        }
    }

    fn args(text_column: Option<&str>) -> ColumnArgs {
        ColumnArgs { image_column: None, text_column: text_column.map(str::to_owned) }
    }

    #[test]
    fn named_column_without_parquet_is_an_error() {
        let shards = ["a.tar", "b.Parquet"].map(|name| Location::from(name.to_owned()));
        let check = |text_column, shards: &[Location]| args(text_column).check(shards);
        assert!(check(Some("q"), &shards).is_ok());
        for shards in [&shards[..1], &[]] {
            assert!(check(None, shards).is_ok());
            let error = check(Some("q"), shards).unwrap_err().to_string();
            assert_eq!(error, "--image-column and --text-column are for Parquet files");
        }
    }

    #[test]
    fn columns_are_those_of_the_command() {
        let ask = activity(&["question", "candidates"], &["id", "image", "answer", "score", "error"]);
        let ask = args(Some("q")).shard_columns(ask);
        let texts: Vec<_> =
            ask.texts.iter().map(|text| (text.name.as_str(), text.field, text.is_required)).collect();
        assert_eq!(texts, [("q", "question", true), ("candidates", "candidates", false)]);
        assert_eq!(ask.results.iter().map(|column| column.name).collect::<Vec<_>>(), ["answer", "score"]);
        let embed = args(None).shard_columns(activity(&["text"], &["text", "embedding", "error"]));
        assert_eq!(embed.texts, [TextColumn { name: "text".to_owned(), field: "text", is_required: false }]);
        assert_eq!(embed.results.iter().map(|column| column.name).collect::<Vec<_>>(), ["embedding"]);
    }

    #[test]
    fn columns_are_fields_of_results() {
        assert!(RESULT_COLUMNS.iter().all(|column| RESULT_FIELDS.contains(&column.name)));
    }
}
