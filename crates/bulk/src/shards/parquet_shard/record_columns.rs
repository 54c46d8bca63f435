//! The columns of a Parquet file that become fields of records.

use std::ffi::OsStr;

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::{DataType, Field, Schema};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    record::Fields,
    shards::{columns::ShardColumns, exchange::MAX_IMAGE_BYTES},
    storage::Location,
};

/// Columns of images, if none is named. The first one of them that a file has counts.
const IMAGE_COLUMNS: [&str; 3] = ["image", "img", "jpg"];

/// The columns of a file with the images and texts of records.
#[derive(Debug)]
pub(super) struct RecordColumns {
    image: String,
    /// The names of columns, and the fields of records that they become.
    texts: Vec<(String, &'static str)>,
    /// The positions of all these columns in the schema.
    pub(super) roots: Vec<usize>,
}

impl RecordColumns {
    /// Finds the columns in the schema of a file.
    ///
    /// # Errors
    /// A column that is missing, or has a type without images or texts.
    pub(super) fn find(schema: &Schema, columns: &ShardColumns) -> Result<Self, String> {
        let names =
            || schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        let image = match &columns.image {
            Some(name) => schema.column_with_name(name).ok_or_else(|| missing(name, &names()))?,
            None => IMAGE_COLUMNS
                .iter()
                .find_map(|name| schema.column_with_name(name))
                .ok_or_else(|| missing(&IMAGE_COLUMNS.join(", "), &names()))?,
        };
        check_type(image.1, is_image(image.1.data_type()), "an image, bytes or a path")?;
        let mut found = Self { image: image.1.name().clone(), texts: Vec::new(), roots: vec![image.0] };
        for column in &columns.texts {
            let Some((root, field)) = schema.column_with_name(&column.name) else {
                if column.is_required {
                    return Err(missing(&column.name, &names()));
                }
                continue;
            };
            check_type(field, is_texts(field.data_type()), "a text or a list of texts")?;
            found.texts.push((column.name.clone(), column.field));
            found.roots.push(root);
        }
        Ok(found)
    }

    /// Returns the record of a row. Paths of images are relative to `folder`.
    ///
    /// # Errors
    /// An image that is too large.
    pub(super) fn record(
        &self,
        batch: &RecordBatch,
        row: usize,
        folder: &Location,
    ) -> Result<Fields, String> {
        let mut fields = Fields::new();
        if let Some(column) = batch.column_by_name(&self.image)
            && let Some(image) = self.image(column, row, folder)?
        {
            fields.insert("image".to_owned(), Value::String(image));
        }
        for (name, field) in &self.texts {
            if let Some(value) = batch.column_by_name(name).and_then(|column| texts_at(column, row)) {
                fields.insert((*field).to_owned(), value);
            }
        }
        Ok(fields)
    }

    fn image(&self, column: &ArrayRef, row: usize, folder: &Location) -> Result<Option<String>, String> {
        let (content, path) = match column.as_struct_opt() {
            Some(images) if images.is_valid(row) => (
                images.column_by_name("bytes").and_then(|column| bytes_at(column, row)),
                images.column_by_name("path").and_then(|column| bytes_at(column, row)),
            ),
            _ if matches!(column.data_type(), DataType::Utf8) => (None, bytes_at(column, row)),
            _ => (bytes_at(column, row), None),
        };
        Ok(match (content, path) {
            (Some(content), _) if content.len() as u64 > MAX_IMAGE_BYTES => {
                return Err(format!(
                    "column {} is invalid: {} bytes: at most {MAX_IMAGE_BYTES} allowed",
                    self.image,
                    content.len()
                ));
            }
            (Some(content), _) => Some(format!("data:;base64,{}", STANDARD.encode(content))),
            (None, Some(path)) if !path.is_empty() => {
                Some(image_path(folder, &String::from_utf8_lossy(path)))
            }
            (None, _) => None,
        })
    }
}

fn missing(expected: &str, found: &str) -> String {
    format!("no column of this name: {expected}. The columns are {found}")
}

fn check_type(field: &Field, is_valid: bool, expected: &str) -> Result<(), String> {
    match is_valid {
        true => Ok(()),
        false => {
            Err(format!("column {} has the type {}: expected {expected}", field.name(), field.data_type()))
        }
    }
}

/// Returns whether a type is that of images. The schema is that of Parquet alone, which has no
/// further types of strings.
fn is_image(data_type: &DataType) -> bool {
    let is_content = |data_type: &DataType| matches!(data_type, DataType::Binary | DataType::Utf8);
    match data_type {
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| ["bytes", "path"].contains(&field.name().as_str()) && is_content(field.data_type())),
        data_type => is_content(data_type),
    }
}

fn is_texts(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => matches!(item.data_type(), DataType::Utf8),
        data_type => matches!(data_type, DataType::Utf8),
    }
}

/// Returns a binary value or the bytes of a string.
fn bytes_at(column: &ArrayRef, row: usize) -> Option<&[u8]> {
    if column.is_null(row) {
        return None;
    }
    match column.as_string_opt::<i32>() {
        Some(texts) => Some(texts.value(row).as_bytes()),
        None => Some(column.as_binary_opt::<i32>()?.value(row)),
    }
}

/// Returns a text or a list of texts.
fn texts_at(column: &ArrayRef, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Some(Value::String(texts.value(row).to_owned()));
    }
    let items = column.as_list_opt::<i32>()?.value(row);
    let items = items.as_string_opt::<i32>()?.iter();
    Some(items.map(|item| item.map_or(Value::Null, |text| Value::String(text.to_owned()))).collect())
}

/// Returns the path of an image that a shard in `folder` names. A URL stays as it is.
fn image_path(folder: &Location, image: &str) -> String {
    if image.contains("://") || image.starts_with("data:") {
        return image.to_owned();
    }
    match folder.join(OsStr::new(image)) {
        Location::Path(path) => path.to_string_lossy().into_owned(),
        // The folder of a URL has no query.
        Location::Url(url) => url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn image_path_is_relative_to_the_folder_of_the_shard() {
        let path = |image| image_path(&Location::from(Path::new("data/train")), image);
        assert_eq!(path("a/0.jpg"), "data/train/a/0.jpg");
        for image in ["/photos/0.jpg", "https://example.org/0.jpg", "data:image/png;base64,aW1n"] {
            assert_eq!(path(image), image);
        }
    }

    #[test]
    fn missing_and_unsuitable_columns_are_named() {
        let schema = Schema::new(vec![
            Field::new("photo", DataType::Utf8, true),
            Field::new("image", DataType::Int32, true),
        ]);
        let error = |image: Option<&str>, schema: &Schema| {
            let columns = ShardColumns { image: image.map(str::to_owned), ..ShardColumns::default() };
            RecordColumns::find(schema, &columns).unwrap_err()
        };
        assert_eq!(
            error(None, &schema),
            "column image has the type Int32: expected an image, bytes or a path"
        );
        assert_eq!(error(Some("x"), &schema), "no column of this name: x. The columns are photo, image");
        let schema = schema.project(&[0]).unwrap();
        assert_eq!(error(None, &schema), "no column of this name: image, img, jpg. The columns are photo");
        let columns = ShardColumns { image: Some("photo".to_owned()), ..ShardColumns::default() };
        assert_eq!(RecordColumns::find(&schema, &columns).unwrap().roots, [0]);
    }
}
