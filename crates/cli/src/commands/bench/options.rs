//! What `blip-serve bench` asks, and how fast.

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

/// Made pictures that differ in what they show; their files all differ anyway.
const MADE_PICTURES: usize = 16;

/// Of 3 to 12 words, most of them known to the demo model, too.
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

const CLIENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// What is asked, and how fast.
#[derive(Args, Debug)]
pub(crate) struct TrafficOptions {
    /// So many clients, each asking again as soon as it is answered [default: 16, without --rate]
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    clients: Option<NonZeroUsize>,

    /// So many requests a second on average, at random moments, whether the server keeps up or not
    #[arg(long, value_name = "REQUESTS/S", value_parser = rate)]
    rate: Option<f64>,

    /// Measured time, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = NonZeroU32::MIN.saturating_add(29))]
    seconds: NonZeroU32,

    /// Time before that in which the server is asked, too, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    warm_up_s: u32,

    /// A folder of pictures [default: made ones]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    images: Option<PathBuf>,

    /// Pixels across and down of made pictures
    #[arg(long, value_name = "WxH", default_value = "640x480", conflicts_with = "images")]
    size: Size,

    /// Part of the requests whose picture is one of a pool, which the server may have seen before; the others' file is new.
    /// Of those, what was asked before is computed again only by a server with --answer-cache-bytes 0
    #[arg(long, value_name = "0..1", default_value_t = 0.0)]
    reuse: f64,

    /// Pictures in that pool
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pool: usize,

    /// How unevenly the pool is asked about: the n-th picture in proportion to n^-SKEW (Zipf's law)
    #[arg(long, value_name = "SKEW", default_value_t = 0.0)]
    skew: f64,

    /// Questions about each picture, in one request
    #[arg(long, value_name = "N", default_value_t = 1)]
    questions_per_image: usize,

    /// A file of questions, one a line [default: a dozen of 3 to 12 words]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    questions: Option<PathBuf>,

    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// When a request is given up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout_s: u32,

    /// Requests under way at a time with --rate; one more is not sent, and counted as NOT_SENT
    #[arg(long, value_name = "N", default_value_t = 4096)]
    most_under_way: usize,
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
            .ok_or_else(|| format!("size is {text:?}: must be WIDTHxHEIGHT, each 1 to 8192"))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| format!("rate is {text:?}: must be more than 0 and at most 1000000"))
}

impl TrafficOptions {
    pub(crate) fn traffic(&self) -> anyhow::Result<Workload> {
        let pictures = match &self.images {
            Some(folder) => read_image_folder(folder)?,
            None => draw_images(MADE_PICTURES, self.size.width, self.size.height, self.seed)?,
        };
        let questions = match &self.questions {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read {}", file.display()))?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            None => QUESTIONS.map(str::to_owned).to_vec(),
        };
        let mix = WorkloadConfig {
            questions_per_image: self.questions_per_image,
            reuse: self.reuse,
            pool_images: self.pool,
            skew: self.skew,
            seed: self.seed,
        };
        Ok(Workload::new(pictures, questions, mix)?)
    }

    pub(crate) fn pace(&self) -> ArrivalProcess {
        match self.rate {
            Some(requests_per_s) => ArrivalProcess::Poisson { requests_per_s },
            None => ArrivalProcess::ClosedLoop { clients: self.clients.unwrap_or(CLIENTS) },
        }
    }

    pub(crate) fn plan(&self) -> LoadPlan {
        LoadPlan {
            warm_up: Duration::from_secs(u64::from(self.warm_up_s)),
            measured: Duration::from_secs(u64::from(self.seconds.get())),
            max_in_flight: self.most_under_way,
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_s))
    }

    /// Option by option, for the report.
    pub(crate) fn described(&self) -> BTreeMap<String, String> {
        let pace = match self.pace() {
            ArrivalProcess::ClosedLoop { clients } => ("clients", clients.to_string()),
            ArrivalProcess::Poisson { requests_per_s } => ("rate", requests_per_s.to_string()),
        };
        let pictures = match &self.images {
            // The folder's own name: where it lies says nothing to others.
            Some(folder) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => format!("made, {}", self.size),
        };
        let options = [
            pace,
            ("images", pictures),
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
    fn a_size_is_two_sides_within_limits() {
        assert_eq!("640x480".parse(), Ok(Size { width: 640, height: 480 }));
        for wrong in ["640", "0x480", "640x9000", "x", "axb", "-1x2"] {
            let message = wrong.parse::<Size>().unwrap_err();
            assert!(message.contains(wrong) && message.contains("1 to 8192"), "{message}");
        }
    }

    #[test]
    fn a_rate_is_a_positive_number() {
        assert_eq!(rate("12.5"), Ok(12.5));
        for wrong in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(wrong).unwrap_err().contains(wrong));
        }
    }
}
