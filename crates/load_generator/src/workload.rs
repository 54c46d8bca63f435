//! What is asked: pictures new and old, each with some questions.

use bytes::{Bytes, BytesMut};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// One request: some questions about one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The file.
    pub picture: Bytes,
    /// What is asked.
    pub questions: Vec<String>,
}

/// How pictures and questions are drawn.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Questions in each request.
    pub questions_per_picture: usize,
    /// Part of the requests whose picture is one of a fixed pool, 0 to 1; the others' is a file that was never sent before.
    pub reuse: f64,
    /// Pictures in that pool.
    pub pool: usize,
    /// How uneven the pool is asked about: the n-th picture comes in proportion to n^-skew; 0 for evenly.
    pub skew: f64,
    /// Seed of all that is random.
    pub seed: u64,
}

/// Why there is no such traffic.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrafficError {
    /// Nothing to ask about, or nothing to ask.
    #[error("there are no {0}")]
    Nothing(&'static str),
    /// A part that is none.
    #[error("reuse is {0}: must be 0 to 1")]
    Reuse(f64),
    /// A skew that is none.
    #[error("skew is {0}: must be 0 or more")]
    Skew(f64),
}

/// An endless source of requests, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Traffic {
    pictures: Vec<Bytes>,
    questions: Vec<String>,
    mix: Mix,
    /// Chance that the pool's picture is this one or one before it.
    cumulative: Vec<f64>,
    random: StdRng,
    new: u64,
    asked: u64,
}

/// Set between a file and the number that makes it a new one.
const MARK: &[u8] = b"blip-serve bench";

impl Traffic {
    /// Requests of `mix` about `pictures`, with `questions` in turn.
    ///
    /// # Errors
    /// [`TrafficError`].
    pub fn new(pictures: Vec<Bytes>, questions: Vec<String>, mix: Mix) -> Result<Self, TrafficError> {
        if pictures.is_empty() || mix.pool == 0 {
            return Err(TrafficError::Nothing("pictures"));
        }
        if questions.is_empty() || mix.questions_per_picture == 0 {
            return Err(TrafficError::Nothing("questions"));
        }
        if !(0.0..=1.0).contains(&mix.reuse) {
            return Err(TrafficError::Reuse(mix.reuse));
        }
        if !(mix.skew >= 0.0 && mix.skew.is_finite()) {
            return Err(TrafficError::Skew(mix.skew));
        }
        let weights: Vec<f64> = (1..=mix.pool).map(|rank| (rank as f64).powf(-mix.skew)).collect();
        let total: f64 = weights.iter().sum();
        let cumulative = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        let (cumulative, random) = (cumulative.collect(), StdRng::seed_from_u64(mix.seed));
        Ok(Self { pictures, questions, mix, cumulative, random, new: 0, asked: 0 })
    }

    /// The next request.
    pub fn draw(&mut self) -> Ask {
        // The pool and the new files are the same pictures with other numbers behind their ends, where every format lets
        // anything stand: to decode them takes as long, and no cache takes one for the other.
        let number = if self.random.random::<f64>() < self.mix.reuse {
            let chance = self.random.random::<f64>();
            self.cumulative.partition_point(|up_to| *up_to < chance).min(self.mix.pool - 1) as u64
        } else {
            self.new += 1;
            u64::MAX - self.new
        };
        let picture = self.pictures.get((number % self.pictures.len() as u64) as usize);
        let mut file = BytesMut::from(picture.map(Bytes::as_ref).unwrap_or_default());
        file.extend_from_slice(MARK);
        file.extend_from_slice(&self.mix.seed.to_le_bytes());
        file.extend_from_slice(&number.to_le_bytes());
        let questions = (0..self.mix.questions_per_picture).map(|_| {
            let question = self.questions.get((self.asked % self.questions.len() as u64) as usize);
            self.asked += 1;
            question.cloned().unwrap_or_default()
        });
        let questions = questions.collect();
        Ask { picture: file.freeze(), questions }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn mix() -> Mix {
        Mix { questions_per_picture: 2, reuse: 0.0, pool: 10, skew: 0.0, seed: 7 }
    }

    fn traffic(mix: Mix) -> Traffic {
        let pictures = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        Traffic::new(pictures, ["a", "b", "c"].map(String::from).to_vec(), mix).unwrap()
    }

    #[test]
    fn without_reuse_no_file_comes_twice_and_questions_go_round() {
        let mut traffic = traffic(mix());
        let asked: Vec<Ask> = (0..1000).map(|_| traffic.draw()).collect();
        let files: std::collections::HashSet<_> = asked.iter().map(|ask| &ask.picture).collect();
        assert_eq!(files.len(), 1000);
        assert_eq!(asked[0].questions, ["a", "b"]);
        assert_eq!(asked[1].questions, ["c", "a"]);
    }

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let mix = Mix { reuse: 0.5, skew: 1.0, ..mix() };
        let (mut one, mut other) = (traffic(mix.clone()), traffic(mix));
        assert!((0..100).all(|_| one.draw() == other.draw()));
    }

    #[test]
    fn a_skewed_pool_is_asked_about_as_zipf_says() {
        let mut traffic = traffic(Mix { reuse: 1.0, skew: 1.0, ..mix() });
        let mut counts: HashMap<Bytes, f64> = HashMap::new();
        for _ in 0..20_000 {
            *counts.entry(traffic.draw().picture).or_default() += 1.0;
        }
        assert_eq!(counts.len(), 10);
        let mut counts: Vec<f64> = counts.into_values().collect();
        counts.sort_by(|one, other| other.total_cmp(one));
        // The harmonic number of 10 is 2.929: the first has 34.1 % of all, twice what the second has.
        assert!((counts[0] / 20_000.0 - 0.341).abs() < 0.02, "{counts:?}");
        assert!((counts[0] / counts[1] - 2.0).abs() < 0.2, "{counts:?}");
    }

    #[test]
    fn half_reused_is_half_reused() {
        let mut traffic = traffic(Mix { reuse: 0.5, ..mix() });
        let files: std::collections::HashSet<_> = (0..10_000).map(|_| traffic.draw().picture).collect();
        assert!((4_700..5_300).contains(&files.len()), "{}", files.len());
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_with_its_value() {
        let refused = |mix: Mix| {
            Traffic::new(vec![Bytes::new()], vec![String::new()], mix).map(drop).unwrap_err().to_string()
        };
        assert_eq!(refused(Mix { reuse: 1.5, ..mix() }), "reuse is 1.5: must be 0 to 1");
        assert_eq!(refused(Mix { skew: -1.0, ..mix() }), "skew is -1: must be 0 or more");
        assert_eq!(refused(Mix { questions_per_picture: 0, ..mix() }), "there are no questions");
        assert_eq!(refused(Mix { pool: 0, ..mix() }), "there are no pictures");
    }
}
