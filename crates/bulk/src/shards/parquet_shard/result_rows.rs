//! The column with the results, as rows in memory.

use std::{io, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, ListArray, RecordBatch, StringArray, StructArray,
    builder::{NullBufferBuilder, OffsetBufferBuilder},
};
use arrow_schema::{DataType, Field, Fields as ArrowFields, Schema, SchemaRef};
use serde_json::Value;

use crate::{
    record::Fields,
    shards::columns::{ResultColumn, ValueType},
};

/// The field of the result of a sample that failed.
pub(super) const ERROR: &str = ResultColumn::ERROR.name;

/// Returns the schema of the column with the results.
pub(super) fn result_schema(name: &str, columns: &[ResultColumn]) -> SchemaRef {
    let fields = columns.iter().chain([&ResultColumn::ERROR]).map(to_field);
    let result = Field::new(name, DataType::Struct(fields.collect()), true);
    Arc::new(Schema::new(vec![result]))
}

fn to_field(column: &ResultColumn) -> Field {
    Field::new(column.name, data_type(column.value_type), true)
}

fn data_type(value_type: ValueType) -> DataType {
    match value_type {
        ValueType::Text => DataType::Utf8,
        ValueType::Boolean => DataType::Boolean,
        ValueType::Float => DataType::Float32,
        ValueType::List(item) => DataType::List(Arc::new(list_item(*item))),
        ValueType::Struct(columns) => DataType::Struct(columns.iter().map(to_field).collect()),
    }
}

/// Returns the item of lists, with the name that Parquet recommends.
fn list_item(value_type: ValueType) -> Field {
    Field::new("element", data_type(value_type), true)
}

/// Collects results into rows.
#[derive(Debug)]
pub(super) struct ResultRows {
    schema: SchemaRef,
    columns: Vec<ResultColumn>,
    results: Vec<Value>,
}

impl ResultRows {
    pub(super) fn new(schema: SchemaRef, columns: &[ResultColumn]) -> Self {
        let columns = columns.iter().copied().chain([ResultColumn::ERROR]).collect();
        Self { schema, columns, results: Vec::new() }
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        self.results.len()
    }

    /// Adds the result of a sample. Fields without a value are null.
    pub(super) fn append(&mut self, result: Fields) {
        self.results.push(Value::Object(result));
    }

    /// Returns all rows, and removes them.
    ///
    /// # Errors
    /// A value of another type.
    pub(super) fn take(&mut self) -> io::Result<RecordBatch> {
        let results = std::mem::take(&mut self.results);
        let values: Vec<Option<&Value>> = results.iter().map(Some).collect();
        let name = self.schema.fields().first().map_or("", |field| field.name());
        let results = to_structs(name, &self.columns, &values)?;
        RecordBatch::try_new(Arc::clone(&self.schema), vec![results]).map_err(io::Error::other)
    }
}

/// Returns the values of a field as an array.
///
/// # Errors
/// A value of another type. It is named with its field.
fn to_array(name: &str, value_type: ValueType, values: &[Option<&Value>]) -> io::Result<ArrayRef> {
    Ok(match value_type {
        ValueType::Text => Arc::new(typed(name, values, Value::as_str)?.into_iter().collect::<StringArray>()),
        ValueType::Boolean => Arc::new(BooleanArray::from(typed(name, values, Value::as_bool)?)),
        ValueType::Float => Arc::new(Float32Array::from(typed(name, values, to_f32)?)),
        ValueType::List(item) => {
            let lists = typed(name, values, Value::as_array)?;
            let mut offsets = OffsetBufferBuilder::<i32>::new(lists.len());
            let mut valid = NullBufferBuilder::new(lists.len());
            for list in &lists {
                offsets.try_push_length(list.map_or(0, Vec::len)).map_err(io::Error::other)?;
                valid.append(list.is_some());
            }
            let items: Vec<Option<&Value>> = lists.into_iter().flatten().flatten().map(Some).collect();
            let items = to_array(name, *item, &items)?;
            let offsets = offsets.try_finish().map_err(io::Error::other)?;
            let lists = ListArray::try_new(Arc::new(list_item(*item)), offsets, items, valid.finish());
            Arc::new(lists.map_err(io::Error::other)?)
        }
        ValueType::Struct(columns) => to_structs(name, columns, values)?,
    })
}

fn to_structs(name: &str, columns: &[ResultColumn], values: &[Option<&Value>]) -> io::Result<ArrayRef> {
    let objects = typed(name, values, Value::as_object)?;
    let mut valid = NullBufferBuilder::new(objects.len());
    objects.iter().for_each(|object| valid.append(object.is_some()));
    let array = |column: &ResultColumn| {
        let values: Vec<Option<&Value>> =
            objects.iter().map(|object| object.and_then(|object| object.get(column.name))).collect();
        to_array(column.name, column.value_type, &values)
    };
    let arrays = columns.iter().map(array).collect::<io::Result<Vec<ArrayRef>>>()?;
    let fields: ArrowFields = columns.iter().map(to_field).collect();
    let structs = StructArray::try_new(fields, arrays, valid.finish());
    Ok(Arc::new(structs.map_err(io::Error::other)?))
}

/// Returns the values as those of a type. Null counts as no value.
fn typed<'a, T>(
    name: &str,
    values: &[Option<&'a Value>],
    to_type: impl Fn(&'a Value) -> Option<T>,
) -> io::Result<Vec<Option<T>>> {
    let convert = |value: &'a Value| {
        to_type(value).ok_or_else(|| {
            let message = format!("the result has an unexpected {name}: {value}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    };
    values.iter().map(|value| value.filter(|value| !value.is_null()).map(convert).transpose()).collect()
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

    const COLUMNS: [ResultColumn; 4] = [
        ResultColumn::text("caption"),
        ResultColumn { name: "score", value_type: ValueType::Float },
        ResultColumn { name: "embedding", value_type: ValueType::List(&ValueType::Float) },
        ResultColumn { name: "texts", value_type: ValueType::List(&ValueType::Struct(&TEXT)) },
    ];

    const TEXT: [ResultColumn; 2] =
        [ResultColumn::text("text"), ResultColumn { name: "passed", value_type: ValueType::Boolean }];

    fn rows(results: &[Value]) -> io::Result<RecordBatch> {
        let mut rows = ResultRows::new(result_schema("blip", &COLUMNS), &COLUMNS);
        results.iter().for_each(|result| rows.append(result.as_object().cloned().unwrap()));
        assert_eq!(rows.len(), results.len());
        let batch = rows.take();
        assert_eq!(rows.len(), 0);
        batch
    }

    #[test]
    fn rows_have_typed_values_and_nulls() {
        let batch = rows(&[
            json!({"caption": "a cat", "score": 0.25, "embedding": [1, 0.5]}),
            json!({"error": {"reason": "IMAGE_EMPTY", "message": "no image"}}),
        ]);
        let batch = batch.unwrap();
        let results = batch.column(0).as_struct();
        assert_eq!(
            (results.column(0).as_string::<i32>().value(0), results.column(0).is_null(1)),
            ("a cat", true)
        );
        assert_eq!(results.column(1).as_primitive::<Float32Type>().value(0), 0.25);
        let embedding = results.column(2).as_list::<i32>().value(0);
        assert_eq!(embedding.as_primitive::<Float32Type>().values(), &[1.0, 0.5]);
        assert!(results.column(2).is_null(1));
        let errors = results.column(4).as_struct();
        assert_eq!((errors.is_null(0), errors.column(0).is_null(1)), (true, true));
        assert_eq!(errors.column(1).as_string::<i32>().value(1), "IMAGE_EMPTY");
    }

    #[test]
    fn lists_have_structs_and_can_be_empty() {
        let texts = json!([{"text": "a", "passed": true}, {"text": "b"}]);
        let batch = rows(&[json!({"texts": []}), json!({"texts": texts}), json!({"texts": null})]).unwrap();
        let results = batch.column(0).as_struct();
        let lists = results.column(3).as_list::<i32>();
        assert_eq!([0, 1, 2].map(|at| lists.value_length(at)), [0, 2, 0]);
        assert_eq!([0, 1, 2].map(|at| lists.is_null(at)), [false, false, true]);
        let texts = lists.value(1);
        let texts = texts.as_struct();
        assert_eq!(texts.column(0).as_string::<i32>().value(1), "b");
        let passed = texts.column(1).as_boolean();
        assert_eq!((passed.value(0), passed.is_null(1)), (true, true));
    }

    #[test]
    fn value_of_another_type_is_an_error() {
        for (result, message) in [
            (json!({"caption": 3}), "the result has an unexpected caption: 3"),
            (json!({"texts": [{"passed": 1}]}), "the result has an unexpected passed: 1"),
            (json!({"embedding": ["x"]}), "the result has an unexpected embedding: \"x\""),
        ] {
            assert_eq!(rows(&[result]).unwrap_err().to_string(), message);
        }
    }
}
