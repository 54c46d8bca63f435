//! A request in the form that all protocols share.

use scheduler::Priority;

use crate::{
    auth::client::Client,
    request::{
        deadline::Deadline, field_path::RequestFormat, item::Input, memory_budget::BudgetPermit, task::Task,
    },
    telemetry::tracing::TraceScope,
};

/// A request in protocol-independent form.
#[derive(Debug)]
pub struct InferenceRequest {
    /// The images with their texts.
    pub inputs: Vec<Input>,
    /// The task of every item.
    pub task: Task,
    /// The name of the model, or an empty string for the first model of the task's architecture.
    pub model: String,
    /// The protocol whose field names are used in errors.
    pub format: RequestFormat,
    /// The client.
    pub client: Client,
    /// The requested priority.
    pub priority: Priority,
    /// The time after which results are of no use.
    pub deadline: Option<Deadline>,
    /// Whether results come in the order of the request.
    pub in_order: bool,
    /// Whether a call that fails early has an error for each unfinished item, instead of one error.
    pub complete_on_error: bool,
    /// The memory that the request occupies until its images are decoded.
    pub budget: BudgetPermit,
    /// The span of the request, or an empty scope if the request is not traced.
    pub trace: TraceScope,
}
