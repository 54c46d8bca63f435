//! The workload of `blip-serve bench` and its rate.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueHint};
use load_generator::{ArrivalProcess, LoadPlan, Workload, WorkloadConfig, draw_images, read_image_folder};

/// Number of generated images with different content. The file of each request differs anyway.
const GENERATED_IMAGES: usize = 16;

/// Questions of 3 to 12 words. Most of the words are in the vocabulary of the demo model.
const QUESTIONS: [&str; 12] = [
    "is it red?",
    "what color is it?",
    "what shape is it?",
    "is there a circle?",
    "how many squares are there?",
    "what is in the picture?",
    "is there a blue triangle?",
    "what is the color of the shape?",
    "how many green shapes are in the picture?",
    "is there a yellow circle in this image?",
    "what color is the largest shape in the picture?",
    "is the shape in the image a square or a circle?",
];

/// Default number of clients.
const CLIENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// The requests of a load test and their rate.
#[derive(Args, Debug)]
pub(crate) struct WorkloadArgs {
    /// Number of clients, each with one request in flight [default: 16]
    ///
    /// A client sends its next request as soon as it has received a response.
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    clients: Option<NonZeroUsize>,

    /// Average number of requests per second, sent at random times
    ///
    /// The client keeps this rate even if the server is slower.
    #[arg(long, value_name = "REQUESTS/S", value_parser = rate)]
    rate: Option<f64>,

    /// Measured time in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = NonZeroU32::MIN.saturating_add(29))]
    seconds: NonZeroU32,

    /// Time under load before the measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    warm_up_s: u32,

    /// Folder of images [default: generated images]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    images: Option<PathBuf>,

    /// Width and height of generated images in pixels
    #[arg(long, value_name = "WxH", default_value = "640x480", conflicts_with = "images")]
    size: Size,

    /// Share of requests with an image of the pool; the others have new images
    ///
    /// The server may have cached images of the pool. It also caches the answers about them, unless
    /// its --answer-cache-bytes is 0.
    #[arg(long, value_name = "0..1", default_value_t = 0.0)]
    reuse: f64,

    /// Number of images in the pool
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pool: usize,

    /// Exponent of Zipf's law for the choice of images of the pool
    ///
    /// The n-th image is chosen in proportion to n^-SKEW.
    #[arg(long, value_name = "SKEW", default_value_t = 0.0)]
    skew: f64,

    /// Number of questions about the image of a request
    #[arg(long, value_name = "N", default_value_t = 1)]
    questions_per_image: usize,

    /// File with one question per line [default: 12 questions of 3 to 12 words]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    questions: Option<PathBuf>,

    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Time limit of a request in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout_s: u32,

    /// Maximum number of requests in flight with --rate
    ///
    /// A request above it is not sent and is counted as NOT_SENT.
    #[arg(long, alias = "most-under-way", value_name = "N", default_value_t = 4096)]
    max_in_flight: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    width: u32,
    height: u32,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides = text.split_once('x').and_then(|(width, height)| {
            Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
        });
        sides
            .filter(|size| (1..=8192).contains(&size.width) && (1..=8192).contains(&size.height))
            .ok_or_else(|| format!("invalid size {text:?}: must be WIDTHxHEIGHT, each 1 to 8192"))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| format!("invalid rate {text:?}: must be more than 0 and at most 1000000"))
}

impl WorkloadArgs {
    /// Reads or generates the images and the questions.
    pub(crate) fn workload(&self) -> anyhow::Result<Workload> {
        let images = match &self.images {
            Some(folder) => read_image_folder(folder)?,
            None => draw_images(GENERATED_IMAGES, self.size.width, self.size.height, self.seed)?,
        };
        let questions = match &self.questions {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read {}", file.display()))?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            None => QUESTIONS.map(str::to_owned).to_vec(),
        };
        let config = WorkloadConfig {
            questions_per_image: self.questions_per_image,
            reuse: self.reuse,
            pool_images: self.pool,
            skew: self.skew,
            seed: self.seed,
        };
        Ok(Workload::new(images, questions, config)?)
    }

    pub(crate) fn arrivals(&self) -> ArrivalProcess {
        match self.rate {
            Some(requests_per_s) => ArrivalProcess::Poisson { requests_per_s },
            None => ArrivalProcess::ClosedLoop { clients: self.clients() },
        }
    }

    pub(crate) fn clients(&self) -> NonZeroUsize {
        self.clients.unwrap_or(CLIENTS)
    }

    pub(crate) fn plan(&self) -> LoadPlan {
        LoadPlan {
            warm_up: Duration::from_secs(u64::from(self.warm_up_s)),
            measured: Duration::from_secs(u64::from(self.seconds.get())),
            max_in_flight: self.max_in_flight,
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_s))
    }

    /// Returns the options for the report.
    pub(crate) fn describe(&self) -> BTreeMap<String, String> {
        let arrivals = match self.arrivals() {
            ArrivalProcess::ClosedLoop { clients } => ("clients", clients.to_string()),
            ArrivalProcess::Poisson { requests_per_s } => ("rate", requests_per_s.to_string()),
        };
        let images = match &self.images {
            // The path of the folder has no meaning on other machines.
            Some(folder) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => format!("generated, {}", self.size),
        };
        let options = [
            arrivals,
            ("images", images),
            ("reuse", self.reuse.to_string()),
            ("pool", self.pool.to_string()),
            ("skew", self.skew.to_string()),
            ("questions-per-image", self.questions_per_image.to_string()),
            ("warm-up-s", self.warm_up_s.to_string()),
            ("timeout-s", self.timeout_s.to_string()),
            ("seed", self.seed.to_string()),
        ];
        options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_width_and_height_within_limits() {
        assert_eq!("640x480".parse(), Ok(Size { width: 640, height: 480 }));
        for wrong in ["640", "0x480", "640x9000", "x", "axb", "-1x2"] {
            let message = wrong.parse::<Size>().unwrap_err();
            assert!(message.contains(wrong) && message.contains("1 to 8192"), "{message}");
        }
    }

    #[test]
    fn rate_is_a_positive_number() {
        assert_eq!(rate("12.5"), Ok(12.5));
        for wrong in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(wrong).unwrap_err().contains(wrong));
        }
    }
}
