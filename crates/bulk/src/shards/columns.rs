//! The columns of Parquet files that a run reads and writes.

/// The columns of Parquet files.
#[derive(Clone, Debug, Default)]
pub struct ShardColumns {
    /// The column of images. By default it is the first of `image`, `img` and `jpg`.
    pub image: Option<String>,
    /// The columns of texts.
    pub texts: Vec<TextColumn>,
    /// The fields of the column with the results, besides `error`.
    pub results: Vec<ResultColumn>,
}

/// A column of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextColumn {
    /// The name of the column.
    pub name: String,
    /// The field of records that it becomes.
    pub field: &'static str,
    /// Whether a file without it is an error.
    pub is_required: bool,
}

/// A field of results with its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultColumn {
    /// The field.
    pub name: &'static str,
    /// Its type.
    pub value_type: ValueType,
}

/// The type of a result's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A string.
    Text,
    /// True or false.
    Boolean,
    /// A 32-bit float.
    Float,
    /// A list of values of one type.
    List(&'static ValueType),
    /// Named values.
    Struct(&'static [ResultColumn]),
}

impl ResultColumn {
    /// The field of an error.
    pub const ERROR: Self = Self {
        name: "error",
        value_type: ValueType::Struct(&[Self::text("code"), Self::text("reason"), Self::text("message")]),
    };

    /// Returns a field of texts.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Self { name, value_type: ValueType::Text }
    }
}
