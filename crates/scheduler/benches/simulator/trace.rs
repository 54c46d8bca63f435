//! Who asks what when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) client: u64,
    pub(crate) interactive: bool,
    pub(crate) image: u64,
    pub(crate) question: u64,
    pub(crate) tokens: u32,
    /// Decode steps until the answer is complete.
    pub(crate) steps: u32,
    pub(crate) deadline: Option<Duration>,
}

/// The shapes of traffic that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Many clients, arrivals without memory, each question about an image of its own.
    Poisson,
    /// The same, in bursts at four times the mean rate with silence between them.
    Bursty,
    /// Requests with 1 to 10 questions about images of Zipf popularity.
    Zipf,
    /// Fifty interactive clients at a quarter of the load, and one that asks the rest in floods of 1000.
    Bulk,
    /// The same, the interactive clients waiting however long it takes.
    PatientBulk,
}

impl Traffic {
    pub(crate) const ALL: [Self; 5] =
        [Self::Poisson, Self::Bursty, Self::Zipf, Self::Bulk, Self::PatientBulk];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Poisson => "Poisson",
            Self::Bursty => "bursty",
            Self::Zipf => "Zipf images, 1 to 10 questions",
            Self::Bulk => "bulk beside 50 interactive",
            Self::PatientBulk => "bulk beside 50 patient interactive",
        }
    }

    /// `count` questions at `rate` a second on average.
    pub(crate) fn generate(self, count: usize, rate: f64, deadline: Duration) -> Vec<Arrival> {
        let mut maker = Maker { random: StdRng::seed_from_u64(20_240_613), arrivals: Vec::new(), images: 0 };
        match self {
            Self::Poisson => maker.poisson(count, rate, deadline),
            Self::Bursty => maker.bursty(count, rate, deadline),
            Self::Zipf => maker.zipf(count, rate, deadline),
            Self::Bulk => maker.bulk(count, rate, Some(deadline)),
            Self::PatientBulk => maker.bulk(count, rate, None),
        }
        maker.arrivals.sort_by_key(|arrival| arrival.at);
        maker.arrivals
    }
}

struct Maker {
    random: StdRng,
    arrivals: Vec<Arrival>,
    images: u64,
}

impl Maker {
    /// A gap of an arrival process without memory, seconds.
    fn gap(&mut self, rate: f64) -> f64 {
        -(1.0 - self.random.random::<f64>()).ln() / rate
    }

    fn new_image(&mut self) -> u64 {
        self.images += 1;
        1_000_000 + self.images
    }

    fn ask(&mut self, at: f64, client: u64, image: u64, question: u64, deadline: Option<Duration>) {
        let at = Duration::from_secs_f64(at);
        let arrival = Arrival {
            at,
            client,
            interactive: client != BULK_CLIENT,
            image,
            question,
            tokens: self.random.random_range(6..=16),
            steps: self.random.random_range(2..=5),
            deadline: deadline.map(|allowance| at + allowance),
        };
        self.arrivals.push(arrival);
    }

    fn poisson(&mut self, count: usize, rate: f64, deadline: Duration) {
        let mut at = 0.0;
        for question in 0..count as u64 {
            at += self.gap(rate);
            let (client, image) = (self.random.random_range(0..CLIENTS), self.new_image());
            self.ask(at, client, image, question, Some(deadline));
        }
    }

    fn bursty(&mut self, count: usize, rate: f64, deadline: Duration) {
        // Silence and burst take turns; a quarter of the time is burst, an eighth of the deadline long on average.
        let burst = deadline.as_secs_f64() / 8.0;
        let (mut at, mut until) = (0.0, burst);
        for question in 0..count as u64 {
            at += self.gap(4.0 * rate);
            while at > until {
                let silence = self.gap(1.0 / (3.0 * burst));
                at += silence;
                until += silence + self.gap(1.0 / burst);
            }
            let (client, image) = (self.random.random_range(0..CLIENTS), self.new_image());
            self.ask(at, client, image, question, Some(deadline));
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
                self.ask(at, client, image.unwrap_or_default() as u64, question, Some(deadline));
            }
        }
    }

    fn bulk(&mut self, count: usize, rate: f64, deadline: Option<Duration>) {
        let (mut at, mut end, interactive) = (0.0, 0.0, count / 4);
        for question in 0..interactive as u64 {
            at += self.gap(rate / 4.0);
            end = at;
            let (client, image) = (self.random.random_range(0..50), self.new_image());
            self.ask(at, client, image, question, deadline);
        }
        let floods = ((count - interactive) as f64 / 1000.0).ceil().max(1.0);
        for flood in 0..floods as u64 {
            let start = end * flood as f64 / floods;
            for question in 0..1000 {
                let image = self.new_image();
                self.ask(start, BULK_CLIENT, image, question, None);
            }
        }
    }
}

const BULK_CLIENT: u64 = u64::MAX;
/// Clients where it is not said otherwise.
const CLIENTS: u64 = 500;
