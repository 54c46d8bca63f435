//! The column with the results, as rows in memory.

use std::{io, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch, StructArray,
    builder::{ArrayBuilder, Float32Builder, ListBuilder, StringBuilder, StructBuilder},
};
use arrow_schema::{ArrowError, DataType, Field, Fields as ArrowFields, Schema, SchemaRef};
use serde_json::Value;

use crate::{
    record::Fields,
    shards::columns::{ResultColumn, ValueType},
};

/// The field of the result of a sample that failed.
pub(super) const ERROR: &str = "error";

/// The fields of an error.
const ERROR_FIELDS: [&str; 3] = ["code", "reason", "message"];

/// Returns the schema of the column with the results.
pub(super) fn result_schema(name: &str, columns: &[ResultColumn]) -> SchemaRef {
    let mut fields: Vec<Field> =
        columns.iter().map(|column| Field::new(column.name, data_type(column.value_type), true)).collect();
    fields.push(Field::new(ERROR, DataType::Struct(error_fields()), true));
    let result = Field::new(name, DataType::Struct(fields.into()), true);
    Arc::new(Schema::new(vec![result]))
}

fn data_type(value_type: ValueType) -> DataType {
    match value_type {
        ValueType::Text => DataType::Utf8,
        ValueType::Float => DataType::Float32,
        ValueType::Floats => DataType::List(Arc::new(list_item())),
    }
}

/// Returns the item of lists, with the name that Parquet recommends.
fn list_item() -> Field {
    Field::new("element", DataType::Float32, true)
}

fn error_fields() -> ArrowFields {
    ERROR_FIELDS.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect()
}

/// Collects results into rows.
#[derive(Debug)]
pub(super) struct ResultRows {
    schema: SchemaRef,
    columns: Vec<(&'static str, Values)>,
    errors: StructBuilder,
}

impl ResultRows {
    pub(super) fn new(schema: SchemaRef, columns: &[ResultColumn]) -> Self {
        let texts = || Box::new(StringBuilder::new()) as Box<dyn ArrayBuilder>;
        let errors = StructBuilder::new(error_fields(), ERROR_FIELDS.iter().map(|_| texts()).collect());
        let columns = columns.iter().map(|column| (column.name, Values::new(column.value_type))).collect();
        Self { schema, columns, errors }
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        self.errors.len()
    }

    /// Adds the result of a sample. Fields without a value are null.
    ///
    /// # Errors
    /// A value of another type.
    pub(super) fn append(&mut self, result: &Fields) -> io::Result<()> {
        for (name, values) in &mut self.columns {
            let value = result.get(*name).filter(|value| !value.is_null());
            values.append(value).ok_or_else(|| {
                let message =
                    format!("the result has an unexpected {name}: {}", value.unwrap_or(&Value::Null));
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?;
        }
        let error = result.get(ERROR).and_then(Value::as_object);
        for (at, name) in ERROR_FIELDS.iter().enumerate() {
            let text = error.and_then(|error| error.get(*name)).and_then(Value::as_str);
            if let Some(texts) = self.errors.field_builder::<StringBuilder>(at) {
                texts.append_option(text);
            }
        }
        self.errors.append(error.is_some());
        Ok(())
    }

    /// Returns all rows, and removes them.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut arrays: Vec<ArrayRef> = self.columns.iter_mut().map(|(_, values)| values.take()).collect();
        arrays.push(Arc::new(self.errors.finish()));
        let fields = match self.schema.fields().first().map(|field| field.data_type()) {
            Some(DataType::Struct(fields)) => fields.clone(),
            _ => ArrowFields::empty(),
        };
        let results = StructArray::try_new(fields, arrays, None)?;
        RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(results)])
    }
}

/// The values of a field.
#[derive(Debug)]
enum Values {
    Text(StringBuilder),
    Float(Float32Builder),
    Floats(ListBuilder<Float32Builder>),
}

impl Values {
    fn new(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Text => Self::Text(StringBuilder::new()),
            ValueType::Float => Self::Float(Float32Builder::new()),
            ValueType::Floats => {
                Self::Floats(ListBuilder::new(Float32Builder::new()).with_field(list_item()))
            }
        }
    }

    /// Adds a value or null. Returns `None` if the value has another type.
    fn append(&mut self, value: Option<&Value>) -> Option<()> {
        match (self, value) {
            (Self::Text(texts), None) => texts.append_null(),
            (Self::Text(texts), Some(value)) => texts.append_value(value.as_str()?),
            (Self::Float(floats), None) => floats.append_null(),
            (Self::Float(floats), Some(value)) => floats.append_value(to_f32(value)?),
            (Self::Floats(lists), None) => lists.append_null(),
            (Self::Floats(lists), Some(value)) => {
                for item in value.as_array()? {
                    lists.values().append_value(to_f32(item)?);
                }
                lists.append(true);
            }
        }
        Some(())
    }

    fn take(&mut self) -> ArrayRef {
        match self {
            Self::Text(texts) => Arc::new(texts.finish()),
            Self::Float(floats) => Arc::new(floats.finish()),
            Self::Floats(lists) => Arc::new(lists.finish()),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "numbers of results are 32-bit floats")]
fn to_f32(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, cast::AsArray, types::Float32Type};
    use serde_json::json;

    use super::*;

    const COLUMNS: [ResultColumn; 3] = [
        ResultColumn { name: "caption", value_type: ValueType::Text },
        ResultColumn { name: "score", value_type: ValueType::Float },
        ResultColumn { name: "embedding", value_type: ValueType::Floats },
    ];

    #[test]
    fn rows_have_typed_values_and_nulls() {
        let mut rows = ResultRows::new(result_schema("blip", &COLUMNS), &COLUMNS);
        for result in [
            json!({"caption": "a cat", "score": 0.25, "embedding": [1, 0.5]}),
            json!({"error": {"reason": "IMAGE_EMPTY", "message": "no image"}}),
        ] {
            rows.append(result.as_object().unwrap()).unwrap();
        }
        assert_eq!(rows.len(), 2);
        let batch = rows.take().unwrap();
        assert_eq!(rows.len(), 0);
        let results = batch.column(0).as_struct();
        assert_eq!(
            (results.column(0).as_string::<i32>().value(0), results.column(0).is_null(1)),
            ("a cat", true)
        );
        assert_eq!(results.column(1).as_primitive::<Float32Type>().value(0), 0.25);
        let embedding = results.column(2).as_list::<i32>().value(0);
        assert_eq!(embedding.as_primitive::<Float32Type>().values(), &[1.0, 0.5]);
        let errors = results.column(3).as_struct();
        assert_eq!((errors.is_null(0), errors.column(0).is_null(1)), (true, true));
        assert_eq!(errors.column(1).as_string::<i32>().value(1), "IMAGE_EMPTY");
    }

    #[test]
    fn value_of_another_type_is_an_error() {
        let mut rows = ResultRows::new(result_schema("blip", &COLUMNS), &COLUMNS);
        let error = rows.append(json!({"caption": 3}).as_object().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "the result has an unexpected caption: 3");
    }
}
