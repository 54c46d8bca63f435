//! The schema and the metadata of an output shard.

use std::sync::Arc;

use arrow_schema::{FieldRef, Schema, SchemaRef};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parquet::{
    arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema},
    errors::ParquetError,
    file::metadata::{FileMetaData, KeyValue},
    schema::types::{Type, TypePtr},
};

use crate::shards::{
    columns::ResultColumn,
    parquet_shard::result_rows::{ERROR, result_schema},
};

/// What an output shard has: the columns of its input, and one with the results.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) schema: TypePtr,
    pub(super) key_values: Option<Vec<KeyValue>>,
    /// The leaves of the input that are copied: all but the results of an earlier run.
    pub(super) copied: Vec<usize>,
    /// The schema of the column with the results.
    pub(super) results: SchemaRef,
}

impl Layout {
    /// Returns the layout of an output with the results in the column `name`.
    ///
    /// # Errors
    /// The input has a column of this name that no earlier run has written, or its schema is
    /// invalid.
    pub(super) fn new(
        input: &FileMetaData,
        name: &str,
        columns: &[ResultColumn],
    ) -> Result<Self, ParquetError> {
        let leaves = input.schema_descr();
        let root = leaves.root_schema();
        let (old, mut fields): (Vec<TypePtr>, Vec<TypePtr>) =
            root.get_fields().iter().cloned().partition(|field| field.name() == name);
        if !old.iter().all(|field| is_result(field)) {
            return Err(ParquetError::General(format!(
                "the column {name} is no result of an earlier run: choose another name of results"
            )));
        }
        let results = result_schema(name, columns);
        let converted = ArrowSchemaConverter::new().convert(&results)?;
        fields.extend(converted.root_schema().get_fields().iter().cloned());
        let schema = Type::group_type_builder(root.name()).with_fields(fields).build()?;
        let key_values = input.key_value_metadata().map(|key_values| extend(key_values, &results));
        let copied = (0..leaves.num_columns()).filter(|leaf| leaves.get_column_root(*leaf).name() != name);
        Ok(Self { schema: Arc::new(schema), key_values, copied: copied.collect(), results })
    }
}

/// Returns whether a column has the form of results.
fn is_result(column: &Type) -> bool {
    column.is_group() && column.get_fields().iter().any(|field| field.name() == ERROR && field.is_group())
}

/// Returns the metadata of an output. It differs from that of the input in the schema of Arrow,
/// which must have all columns.
fn extend(key_values: &[KeyValue], results: &Schema) -> Vec<KeyValue> {
    let extended = key_values.iter().filter_map(|key_value| {
        if key_value.key != ARROW_SCHEMA_META_KEY {
            return Some(key_value.clone());
        }
        // Readers do without a schema that is not readable.
        let bytes = STANDARD.decode(key_value.value.as_ref()?).ok()?;
        let schema = arrow_ipc::convert::try_schema_from_ipc_buffer(&bytes).ok()?;
        let is_new = |field: &&FieldRef| results.field_with_name(field.name()).is_ok();
        let fields = schema.fields().iter().filter(|field| !is_new(field)).chain(results.fields()).cloned();
        let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone());
        Some(KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(&schema)))
    });
    extended.collect()
}
