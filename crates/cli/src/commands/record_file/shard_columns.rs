//! The columns of Parquet files for a command.

use bulk::{ResultColumn, ShardColumns, TextColumn, ValueType};
use clap::Args;

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
    /// Returns whether a column is named.
    pub(crate) fn is_given(&self) -> bool {
        self.image_column.is_some() || self.text_column.is_some()
    }

    /// Returns the columns that a command reads and writes: its texts are the field `field` of
    /// records, and its CSV output has `columns`.
    pub(crate) fn shard_columns(&self, field: &'static str, columns: &[&str]) -> ShardColumns {
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
    use crate::records::RESULT_FIELDS;

    fn columns(field: &'static str, columns: &[&str], text_column: Option<&str>) -> ShardColumns {
        let text_column = text_column.map(str::to_owned);
        ColumnArgs { image_column: None, text_column }.shard_columns(field, columns)
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
