//! The device that every policy gets: a measured service curve and a cache of image features.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use scheduler::{BatchShape, CostCoefficients};
use serde::Deserialize;

use crate::trace::Arrival;

/// One device, as written in `service.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Curve {
    pub(crate) name: String,
    batch: f64,
    image: f64,
    question: f64,
    step: f64,
    /// Images whose features fit into the device's memory.
    cached_images: usize,
    /// What an interactive client is willing to wait.
    pub(crate) deadline_ms: u64,
}

#[derive(Debug, Deserialize)]
struct File {
    curves: Vec<Curve>,
}

pub(crate) fn load(path: &Path) -> Result<Vec<Curve>, Box<dyn std::error::Error>> {
    let file: File = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    Ok(file.curves)
}

/// What became of a batch.
pub(crate) struct Run {
    /// When each row is finished, from the start of the batch.
    pub(crate) rows: Vec<Duration>,
    pub(crate) whole: Duration,
    pub(crate) steps: u32,
    pub(crate) encoded: Vec<u64>,
    pub(crate) evicted: Vec<u64>,
}

/// The device: encodes each image of a batch once, and not at all while its features are cached;
/// answers a row as soon as its last token is decoded. The same for every policy.
#[derive(Debug)]
pub(crate) struct Device {
    coefficients: CostCoefficients,
    capacity: usize,
    last_used: HashMap<u64, u64>,
    clock: u64,
}

impl Device {
    pub(crate) fn new(curve: &Curve) -> Self {
        let Curve { batch, image, question, step, .. } = *curve;
        Self {
            coefficients: CostCoefficients { batch, image, question, step },
            capacity: curve.cached_images,
            last_used: HashMap::new(),
            clock: 0,
        }
    }

    pub(crate) fn run(&mut self, batch: &[&Arrival]) -> Run {
        let mut encoded = Vec::new();
        for row in batch {
            self.clock += 1;
            if self.last_used.insert(row.image, self.clock).is_none() {
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
        let whole = time(steps);
        let evicted = self.evict();
        Run { rows, whole, steps, encoded, evicted }
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
