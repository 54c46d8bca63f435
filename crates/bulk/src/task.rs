//! The interface of the work that is done for each record.

use std::{future::Future, time::Duration};

use crate::record::Fields;

/// The work that is done for each record, such as a request to a server.
pub trait Task: Send + Sync {
    /// Processes records with the same value of `BulkConfig::group_by`.
    ///
    /// Returns one result for each record, in their order.
    ///
    /// # Errors
    /// The reason why no record can ever be processed, such as a rejected API key. The run stops.
    fn process(&self, records: Vec<Fields>)
    -> impl Future<Output = Result<Vec<RecordResult>, String>> + Send;
}

/// The result of one record.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordResult {
    /// Success. These fields are written beside those of the record.
    Answered(Fields),
    /// A permanent failure. These fields are written beside those of the record.
    Failed(Fields),
    /// A rejection that is retried after this delay. If no time is left for a retry, it is a
    /// failure with these fields.
    Busy(Duration, Fields),
    /// An unavailable server, with the cause, such as a lost connection. The record is retried. If
    /// no time is left for a retry, the run stops.
    Unavailable(String),
}
