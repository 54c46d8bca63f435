//! Adapters for the APIs of other servers, so that their clients can call this one.
//!
//! Each decodes a request of its API into a request for the [`pipeline`](crate::pipeline), and
//! writes the results and errors as its clients expect them. What they share is in [`call`].

pub mod clouds; // the routes of containers on clouds
pub mod routing_error; // requests that no route accepts
pub mod openai; // OpenAI's API
pub mod hugging_face; // the tasks of Hugging Face's API
pub mod open_inference; // the protocols of KServe and Triton
pub mod error_text; // errors as an object with a text
pub mod call; // from the headers of a request to its results
