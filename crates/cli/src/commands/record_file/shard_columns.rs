//! The columns of Parquet files for a command.

use bulk::{Location, ResultColumn, ShardColumns, TextColumn, ValueType};
use clap::Args;

use crate::commands::record_file::activity::Activity;

/// The types of result fields. A column of results has the fields that a CSV output has.
const RESULT_COLUMNS: [ResultColumn; 7] = [
    ResultColumn { name: "answer", value_type: ValueType::Text },
    ResultColumn { name: "caption", value_type: ValueType::Text },
    ResultColumn { name: "score", value_type: ValueType::Float },
    ResultColumn { name: "margin", value_type: ValueType::Float },
    ResultColumn { name: "probability", value_type: ValueType::Float },
    ResultColumn { name: "cosine", value_type: ValueType::Float },
    ResultColumn { name: "embedding", value_type: ValueType::Floats },
];

/// Fields of questions beside their text.
const QUESTION_FIELDS: [&str; 2] = ["candidates", "candidate_list"];

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
    /// ask reads question, caption reads prompt, match and embed read text.
    #[arg(long, value_name = "NAME", requires = "input")]
    text_column: Option<String>,
}

impl ColumnArgs {
    /// Checks that the command can process the Parquet files among `shards`, and that a column is
    /// named only with such files. The extension of a shard decides its format.
    ///
    /// # Errors
    /// A Parquet file that the command cannot process, or a named column without Parquet files.
    pub(crate) fn check(&self, activity: Activity, shards: &[Location]) -> anyhow::Result<()> {
        let Some(file) = shards.iter().find(|shard| shard.has_extension("parquet")) else {
            anyhow::ensure!(
                self.image_column.is_none() && self.text_column.is_none(),
                "--image-column and --text-column are for Parquet files"
            );
            return Ok(());
        };
        anyhow::ensure!(
            !self.shard_columns(activity).results.is_empty(),
            "{file}: the results of this command are no columns of Parquet files: use tar shards or a record file"
        );
        Ok(())
    }

    /// Returns the columns that a command reads and writes.
    pub(crate) fn shard_columns(&self, activity: Activity) -> ShardColumns {
        let Activity { request_field: field, columns, .. } = activity;
        let name = self.text_column.clone().unwrap_or_else(|| field.to_owned());
        let mut texts = vec![TextColumn { name, field, is_required: self.text_column.is_some() }];
        if field == "question" {
            let more =
                QUESTION_FIELDS.map(|field| TextColumn { name: field.to_owned(), field, is_required: false });
            texts.extend(more);
        }
        let has_field = |column: &&ResultColumn| columns.contains(&column.name);
        let results = RESULT_COLUMNS.iter().filter(has_field).copied().collect();
        ShardColumns { image: self.image_column.clone(), texts, results }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{records::RESULT_FIELDS, target::DefaultModel};

    fn activity(request_field: &'static str, columns: &'static [&'static str]) -> Activity {
        Activity {
            name: "testing",
            columns,
            nothing_given: "",
            request_field,
            text_field: None,
            default_model: DefaultModel::CaptionAndMatch,
        }
    }

    fn args(text_column: Option<&str>) -> ColumnArgs {
        ColumnArgs { image_column: None, text_column: text_column.map(str::to_owned) }
    }

    fn columns(
        field: &'static str,
        columns: &'static [&'static str],
        text_column: Option<&str>,
    ) -> ShardColumns {
        args(text_column).shard_columns(activity(field, columns))
    }

    #[test]
    fn parquet_is_refused_without_columns_of_results() {
        let shards = ["a.tar", "b.Parquet", "c.parquet"].map(|name| Location::from(name.to_owned()));
        let check = |columns, shards: &[Location]| args(None).check(activity("prompt", columns), shards);
        assert!(check(&["caption", "error"], &shards).is_ok());
        let error = check(&["passed_texts", "error"], &shards).unwrap_err().to_string();
        assert!(error.starts_with("b.Parquet: the results of this command"), "{error}");
        assert!(check(&["passed_texts", "error"], &shards[..1]).is_ok());
    }

    #[test]
    fn named_column_without_parquet_is_an_error() {
        let shards = ["a.tar", "b.parquet"].map(|name| Location::from(name.to_owned()));
        let check = |shards: &[Location]| args(Some("q")).check(activity("prompt", &["caption"]), shards);
        assert!(check(&shards).is_ok());
        for shards in [&shards[..1], &[]] {
            let error = check(shards).unwrap_err().to_string();
            assert_eq!(error, "--image-column and --text-column are for Parquet files");
        }
    }

    #[test]
    fn columns_are_those_of_the_command() {
        let ask = columns("question", &["id", "image", "question", "answer", "score", "error"], Some("q"));
        let texts: Vec<_> =
            ask.texts.iter().map(|text| (text.name.as_str(), text.field, text.is_required)).collect();
        let optional = QUESTION_FIELDS.map(|field| (field, field, false));
        assert_eq!(texts, [("q", "question", true), optional[0], optional[1]]);
        assert_eq!(ask.results.iter().map(|column| column.name).collect::<Vec<_>>(), ["answer", "score"]);
        let embed = columns("text", &["text", "embedding", "error"], None);
        assert_eq!(embed.texts, [TextColumn { name: "text".to_owned(), field: "text", is_required: false }]);
        assert_eq!(embed.results, [ResultColumn { name: "embedding", value_type: ValueType::Floats }]);
    }

    #[test]
    fn columns_are_fields_of_results() {
        assert!(RESULT_COLUMNS.iter().all(|column| RESULT_FIELDS.contains(&column.name)));
    }
}
