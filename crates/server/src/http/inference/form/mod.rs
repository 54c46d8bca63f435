//! Forms (`multipart/form-data`), which carry image files without encoding.

pub mod multipart; // decoding of forms
pub mod form_body; // the body of a form, with a limit on the headers of its parts
pub mod form_schema; // the forms in the OpenAPI document
