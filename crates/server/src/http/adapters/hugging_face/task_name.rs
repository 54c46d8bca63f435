//! The names of tasks.

use crate::error::{ErrorReason, RequestError};

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskName {
    VisualQuestionAnswering,
    ImageToText,
    ZeroShotImageClassification,
    FeatureExtraction,
}

impl TaskName {
    /// All tasks with their names in paths.
    pub(crate) const ALL: [(&'static str, Self); 4] = [
        ("visual-question-answering", Self::VisualQuestionAnswering),
        ("image-to-text", Self::ImageToText),
        ("zero-shot-image-classification", Self::ZeroShotImageClassification),
        ("feature-extraction", Self::FeatureExtraction),
    ];

    /// Returns the task of this name in a path.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, task)| *task)
    }

    /// Returns the error of a field that the task does not use.
    pub(crate) fn unused(self, field: &str) -> RequestError {
        let name = Self::ALL.iter().find(|(_, task)| *task == self).map_or("the task", |(name, _)| name);
        RequestError::new(ErrorReason::PayloadInvalid)
            .field(field)
            .cause(format_args!("{name} does not use it"))
    }
}
