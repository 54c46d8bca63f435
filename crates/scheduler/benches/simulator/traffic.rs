//! Traces of arrivals.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Number of clients, except for bulk traffic.
const CLIENTS: u64 = 500;

const BULK_CLIENT: u64 = u64::MAX;

/// A question that arrives.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) client: u64,
    pub(crate) is_interactive: bool,
    pub(crate) image: u64,
    pub(crate) question: u64,
    pub(crate) tokens: u32,
    /// Decode steps of the answer.
    pub(crate) steps: u32,
    pub(crate) deadline: Option<Duration>,
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Poisson arrivals of many clients. Each question has a new image.
    Poisson,
    /// The same in bursts at four times the mean rate, with pauses between them.
    Bursty,
    /// Requests with 1 to 10 questions about images of Zipf popularity.
    Zipf,
    /// 50 interactive clients at a quarter of the load, and a bulk client with 1,000 questions at
    /// once.
    Bulk,
    /// The same, without deadlines.
    BulkWithoutDeadlines,
}

impl Traffic {
    pub(crate) const ALL: [Self; 5] =
        [Self::Poisson, Self::Bursty, Self::Zipf, Self::Bulk, Self::BulkWithoutDeadlines];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Poisson => "Poisson",
            Self::Bursty => "bursty",
            Self::Zipf => "Zipf images, 1 to 10 questions",
            Self::Bulk => "bulk with 50 interactive clients",
            Self::BulkWithoutDeadlines => "bulk with 50 interactive clients, no deadlines",
        }
    }

    /// Returns `count` questions at `rate` per second on average.
    pub(crate) fn generate(self, count: usize, rate: f64, deadline: Duration) -> Vec<Arrival> {
        let mut builder =
            TraceBuilder { random: StdRng::seed_from_u64(20_240_613), arrivals: Vec::new(), images: 0 };
        match self {
            Self::Poisson => builder.poisson(count, rate, deadline),
            Self::Bursty => builder.bursty(count, rate, deadline),
            Self::Zipf => builder.zipf(count, rate, deadline),
            Self::Bulk => builder.bulk(count, rate, Some(deadline)),
            Self::BulkWithoutDeadlines => builder.bulk(count, rate, None),
        }
        builder.arrivals.sort_by_key(|arrival| arrival.at);
        builder.arrivals
    }
}

struct TraceBuilder {
    random: StdRng,
    arrivals: Vec<Arrival>,
    images: u64,
}

impl TraceBuilder {
    /// Returns a time between Poisson arrivals, in seconds.
    fn gap(&mut self, rate: f64) -> f64 {
        -(1.0 - self.random.random::<f64>()).ln() / rate
    }

    fn new_image(&mut self) -> u64 {
        self.images += 1;
        1_000_000 + self.images
    }

    fn push(&mut self, at: f64, client: u64, image: u64, question: u64, deadline: Option<Duration>) {
        let at = Duration::from_secs_f64(at);
        let arrival = Arrival {
            at,
            client,
            is_interactive: client != BULK_CLIENT,
            image,
            question,
            tokens: self.random.random_range(6..=16),
            steps: self.random.random_range(2..=5),
            deadline: deadline.map(|deadline| at + deadline),
        };
        self.arrivals.push(arrival);
    }

    fn poisson(&mut self, count: usize, rate: f64, deadline: Duration) {
        let mut at = 0.0;
        for question in 0..count as u64 {
            at += self.gap(rate);
            let (client, image) = (self.random.random_range(0..CLIENTS), self.new_image());
            self.push(at, client, image, question, Some(deadline));
        }
    }

    fn bursty(&mut self, count: usize, rate: f64, deadline: Duration) {
        // Bursts take a quarter of the time. Their mean length is an eighth of the deadline.
        let burst = deadline.as_secs_f64() / 8.0;
        let (mut at, mut until) = (0.0, burst);
        for question in 0..count as u64 {
            at += self.gap(4.0 * rate);
            while at > until {
                let pause = self.gap(1.0 / (3.0 * burst));
                at += pause;
                until += pause + self.gap(1.0 / burst);
            }
            let (client, image) = (self.random.random_range(0..CLIENTS), self.new_image());
            self.push(at, client, image, question, Some(deadline));
        }
    }

    fn zipf(&mut self, count: usize, rate: f64, deadline: Duration) {
        const IMAGES: usize = 5_000;
        let weights: Vec<f64> = (1..=IMAGES).map(|rank| 1.0 / rank as f64).collect();
        let total: f64 = weights.iter().sum();
        let mut at = 0.0;
        while self.arrivals.len() < count {
            at += self.gap(rate / 5.5);
            let mut point = self.random.random::<f64>() * total;
            let image = weights.iter().position(|weight| {
                point -= weight;
                point <= 0.0
            });
            let client = self.random.random_range(0..CLIENTS);
            for _ in 0..self.random.random_range(1..=10) {
                let question = self.random.random_range(0..200);
                self.push(at, client, image.unwrap_or_default() as u64, question, Some(deadline));
            }
        }
    }

    fn bulk(&mut self, count: usize, rate: f64, deadline: Option<Duration>) {
        let (mut at, mut end, interactive) = (0.0, 0.0, count / 4);
        for question in 0..interactive as u64 {
            at += self.gap(rate / 4.0);
            end = at;
            let (client, image) = (self.random.random_range(0..50), self.new_image());
            self.push(at, client, image, question, deadline);
        }
        let floods = ((count - interactive) as f64 / 1000.0).ceil().max(1.0);
        for flood in 0..floods as u64 {
            let start = end * flood as f64 / floods;
            for question in 0..1000 {
                let image = self.new_image();
                self.push(start, BULK_CLIENT, image, question, None);
            }
        }
    }
}
