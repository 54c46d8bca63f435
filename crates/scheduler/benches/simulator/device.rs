//! The simulated device: measured batch times, and a cache of image features.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use scheduler::{BatchShape, CostCoefficients};
use serde::Deserialize;

use crate::traffic::Arrival;

/// A device of `devices.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeviceSpec {
    pub(crate) name: String,
    batch: f64,
    image: f64,
    question: f64,
    step: f64,
    /// Images whose features fit into the cache.
    cached_images: usize,
    /// Time limit of interactive clients.
    pub(crate) deadline_ms: u64,
}

#[derive(Debug, Deserialize)]
struct DeviceFile {
    devices: Vec<DeviceSpec>,
}

pub(crate) fn load(path: &Path) -> Result<Vec<DeviceSpec>, Box<dyn std::error::Error>> {
    let file: DeviceFile = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    Ok(file.devices)
}

/// The course of a batch. Times are counted from its start.
pub(crate) struct BatchRun {
    /// End of each row.
    pub(crate) rows: Vec<Duration>,
    /// End of the batch.
    pub(crate) end: Duration,
    pub(crate) steps: u32,
    pub(crate) encoded: Vec<u64>,
    pub(crate) evicted: Vec<u64>,
}

/// A device that encodes each image of a batch once, unless its features are cached.
///
/// It answers a row after the row's last decode step. The cache evicts the least recently used
/// image.
#[derive(Debug)]
pub(crate) struct Device {
    coefficients: CostCoefficients,
    capacity: usize,
    last_used: HashMap<u64, u64>,
    uses: u64,
}

impl Device {
    pub(crate) fn new(spec: &DeviceSpec) -> Self {
        let DeviceSpec { batch, image, question, step, .. } = *spec;
        Self {
            coefficients: CostCoefficients { batch, image, question, step },
            capacity: spec.cached_images,
            last_used: HashMap::new(),
            uses: 0,
        }
    }

    pub(crate) fn run(&mut self, batch: &[&Arrival]) -> BatchRun {
        let mut encoded = Vec::new();
        for row in batch {
            self.uses += 1;
            if self.last_used.insert(row.image, self.uses).is_none() {
                encoded.push(row.image);
            }
        }
        let time = |steps: u32| {
            let shape = BatchShape {
                images: encoded.len() as f64,
                questions: batch.len() as f64,
                steps: f64::from(steps),
            };
            Duration::from_secs_f64(self.coefficients.seconds(shape))
        };
        let rows: Vec<Duration> = batch.iter().map(|row| time(row.steps)).collect();
        let steps = batch.iter().map(|row| row.steps).max().unwrap_or_default();
        let end = time(steps);
        let evicted = self.evict();
        BatchRun { rows, end, steps, encoded, evicted }
    }

    fn evict(&mut self) -> Vec<u64> {
        let mut evicted = Vec::new();
        while self.last_used.len() > self.capacity {
            let oldest = self.last_used.iter().min_by_key(|(_, used)| **used).map(|(image, _)| *image);
            let Some(image) = oldest else { break };
            self.last_used.remove(&image);
            evicted.push(image);
        }
        evicted
    }
}
