//! The tasks of Hugging Face's inference API, as `huggingface_hub` and `@huggingface/inference`
//! send them.
//!
//! [`handlers`] choose the task by the path or by the contents of a request. They decode it into a
//! request for the [`pipeline`](crate::pipeline), and write its results in the layout of the task.

pub mod handlers; // from the headers of a request to its response
pub mod task_request; // the JSON of a request
pub mod task_output; // the JSON of results
pub mod parameters; // the parameters of a request
pub mod task_name; // the names of tasks
