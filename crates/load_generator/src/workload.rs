//! The requests of a load test: new and repeated images, with questions about each.

use bytes::{Bytes, BytesMut};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// A request: questions about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// The image file.
    pub image: Bytes,
    /// The questions.
    pub questions: Vec<String>,
}

/// The distribution of images and questions.
#[derive(Clone, Debug)]
pub struct WorkloadConfig {
    /// Questions in each request.
    pub questions_per_image: usize,
    /// Share of the requests whose image comes from a fixed pool, 0 to 1. The image of every other
    /// request is a file that was never sent before.
    pub reuse: f64,
    /// Images in the pool.
    pub pool_images: usize,
    /// Exponent of the Zipf distribution over the pool: the frequency of image n is proportional to
    /// n^-skew. 0 is the uniform distribution.
    pub skew: f64,
    /// Seed of all random choices.
    pub seed: u64,
}

/// A workload that cannot be generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// There is no image or no question.
    #[error("the workload has no {0}")]
    Empty(&'static str),
    /// The share of reused images is out of range.
    #[error("invalid reuse {0}: must be 0 to 1")]
    Reuse(f64),
    /// The exponent is out of range.
    #[error("invalid skew {0}: must be 0 or more")]
    Skew(f64),
}

/// An endless sequence of requests, which is the same for the same seed.
#[derive(Clone, Debug)]
pub struct Workload {
    images: Vec<Bytes>,
    questions: Vec<String>,
    config: WorkloadConfig,
    /// For each image of the pool, the probability of this one or one before it.
    cumulative: Vec<f64>,
    rng: StdRng,
    new_images: u64,
    next_question: u64,
}

/// Separates the content of a file from the number that makes it unique.
const FILE_SEPARATOR: &[u8] = b"blip-serve bench";

impl Workload {
    /// Creates a workload from `images`, and from `questions` in turn.
    ///
    /// # Errors
    /// [`WorkloadError`] if a parameter is out of range.
    pub fn new(
        images: Vec<Bytes>,
        questions: Vec<String>,
        config: WorkloadConfig,
    ) -> Result<Self, WorkloadError> {
        if images.is_empty() || config.pool_images == 0 {
            return Err(WorkloadError::Empty("images"));
        }
        if questions.is_empty() || config.questions_per_image == 0 {
            return Err(WorkloadError::Empty("questions"));
        }
        if !(0.0..=1.0).contains(&config.reuse) {
            return Err(WorkloadError::Reuse(config.reuse));
        }
        if !(config.skew >= 0.0 && config.skew.is_finite()) {
            return Err(WorkloadError::Skew(config.skew));
        }
        let weights: Vec<f64> =
            (1..=config.pool_images).map(|rank| (rank as f64).powf(-config.skew)).collect();
        let total: f64 = weights.iter().sum();
        let cumulative = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        let (cumulative, rng) = (cumulative.collect(), StdRng::seed_from_u64(config.seed));
        Ok(Self { images, questions, config, cumulative, rng, new_images: 0, next_question: 0 })
    }

    /// Generates the next request.
    pub fn next_request(&mut self) -> LoadRequest {
        // Each file is one of the images with a unique number appended. Every format ignores bytes
        // after its end, so decoding takes as long, but caches treat the files as different images.
        let number = if self.rng.random::<f64>() < self.config.reuse {
            let probability = self.rng.random::<f64>();
            let rank = self.cumulative.partition_point(|up_to| *up_to < probability);
            rank.min(self.config.pool_images - 1) as u64
        } else {
            self.new_images += 1;
            u64::MAX - self.new_images
        };
        let image = self.images.get((number % self.images.len() as u64) as usize);
        let mut file = BytesMut::from(image.map(Bytes::as_ref).unwrap_or_default());
        file.extend_from_slice(FILE_SEPARATOR);
        file.extend_from_slice(&self.config.seed.to_le_bytes());
        file.extend_from_slice(&number.to_le_bytes());
        let questions = (0..self.config.questions_per_image).map(|_| {
            let question = self.questions.get((self.next_question % self.questions.len() as u64) as usize);
            self.next_question += 1;
            question.cloned().unwrap_or_default()
        });
        let questions = questions.collect();
        LoadRequest { image: file.freeze(), questions }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const CONFIG: WorkloadConfig =
        WorkloadConfig { questions_per_image: 2, reuse: 0.0, pool_images: 10, skew: 0.0, seed: 7 };

    fn workload(config: WorkloadConfig) -> Workload {
        let images = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        Workload::new(images, ["a", "b", "c"].map(String::from).to_vec(), config).unwrap()
    }

    #[test]
    fn without_reuse_all_files_differ_and_questions_rotate() {
        let mut workload = workload(CONFIG);
        let requests: Vec<LoadRequest> = (0..1000).map(|_| workload.next_request()).collect();
        let files: HashSet<_> = requests.iter().map(|request| &request.image).collect();
        assert_eq!(files.len(), 1000);
        assert_eq!(requests[0].questions, ["a", "b"]);
        assert_eq!(requests[1].questions, ["c", "a"]);
    }

    #[test]
    fn same_seed_gives_same_requests() {
        let config = WorkloadConfig { reuse: 0.5, skew: 1.0, ..CONFIG };
        let (mut first, mut second) = (workload(config.clone()), workload(config));
        assert!((0..100).all(|_| first.next_request() == second.next_request()));
    }

    #[test]
    fn skewed_pool_follows_zipf_distribution() {
        let mut workload = workload(WorkloadConfig { reuse: 1.0, skew: 1.0, ..CONFIG });
        let mut counts: HashMap<Bytes, f64> = HashMap::new();
        for _ in 0..20_000 {
            *counts.entry(workload.next_request().image).or_default() += 1.0;
        }
        assert_eq!(counts.len(), 10);
        let mut counts: Vec<f64> = counts.into_values().collect();
        counts.sort_by(|a, b| b.total_cmp(a));
        // The harmonic number of 10 is 2.929: the first image has 34.1 % of all requests, twice as
        // many as the second.
        assert!((counts[0] / 20_000.0 - 0.341).abs() < 0.02, "{counts:?}");
        assert!((counts[0] / counts[1] - 2.0).abs() < 0.2, "{counts:?}");
    }

    #[test]
    fn reuse_of_half_repeats_half_of_the_images() {
        let mut workload = workload(WorkloadConfig { reuse: 0.5, ..CONFIG });
        let files: HashSet<_> = (0..10_000).map(|_| workload.next_request().image).collect();
        assert!((4_700..5_300).contains(&files.len()), "{}", files.len());
    }

    #[test]
    fn invalid_config_is_reported_with_its_value() {
        let error = |config: WorkloadConfig| {
            let workload = Workload::new(vec![Bytes::new()], vec![String::new()], config);
            workload.map(drop).unwrap_err().to_string()
        };
        assert_eq!(error(WorkloadConfig { reuse: 1.5, ..CONFIG }), "invalid reuse 1.5: must be 0 to 1");
        assert_eq!(error(WorkloadConfig { skew: -1.0, ..CONFIG }), "invalid skew -1: must be 0 or more");
        let no_questions = WorkloadConfig { questions_per_image: 0, ..CONFIG };
        assert_eq!(error(no_questions), "the workload has no questions");
        assert_eq!(error(WorkloadConfig { pool_images: 0, ..CONFIG }), "the workload has no images");
    }
}
