//! The priority of a request, with its conversions for every protocol.

use clap::ValueEnum;
use scheduler::Priority;
use serde::Deserialize;
use utoipa::ToSchema;

/// Which requests the scheduler takes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schema(example = "normal")]
pub enum RequestPriority {
    /// Batch work without a waiting user.
    Low,
    /// Requests without a stated priority.
    #[default]
    Normal,
    /// Interactive work with a waiting user.
    High,
}

impl From<RequestPriority> for Priority {
    fn from(priority: RequestPriority) -> Self {
        match priority {
            RequestPriority::Low => Self::Low,
            RequestPriority::Normal => Self::Normal,
            RequestPriority::High => Self::High,
        }
    }
}

impl From<proto::Priority> for RequestPriority {
    fn from(priority: proto::Priority) -> Self {
        match priority {
            proto::Priority::Low => Self::Low,
            proto::Priority::Unspecified | proto::Priority::Normal => Self::Normal,
            proto::Priority::High => Self::High,
        }
    }
}

impl From<RequestPriority> for proto::Priority {
    fn from(priority: RequestPriority) -> Self {
        match priority {
            RequestPriority::Low => Self::Low,
            RequestPriority::Normal => Self::Normal,
            RequestPriority::High => Self::High,
        }
    }
}
