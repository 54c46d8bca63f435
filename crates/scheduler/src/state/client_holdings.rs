//! What each client holds of the queue.

use std::collections::HashMap;

use crate::job::ClientId;

/// Jobs and image memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Waiting and running jobs.
    pub(crate) jobs: usize,
    /// Bytes of the images that these jobs were the first to bring.
    pub(crate) bytes: usize,
}

/// The holdings of clients with jobs.
#[derive(Debug, Default)]
pub(crate) struct ClientHoldings(HashMap<ClientId, Holding>);

impl ClientHoldings {
    pub(crate) fn get(&self, client: ClientId) -> Holding {
        self.0.get(&client).copied().unwrap_or_default()
    }

    /// Returns the number of clients with jobs.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a job and the bytes of its image.
    pub(crate) fn add(&mut self, client: ClientId, bytes: usize) {
        let holding = self.0.entry(client).or_default();
        holding.jobs += 1;
        holding.bytes += bytes;
    }

    /// Removes a job that was added with `bytes`.
    pub(crate) fn remove(&mut self, client: ClientId, bytes: usize) {
        let Some(holding) = self.0.get_mut(&client) else { return };
        holding.jobs -= 1;
        holding.bytes -= bytes;
        if holding.jobs == 0 {
            self.0.remove(&client);
        }
    }
}
