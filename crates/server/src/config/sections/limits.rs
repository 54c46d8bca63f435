//! Settings of the limits of a request.

use std::time::Duration;

use clap::Args;

use crate::config::defaults::defaults;

/// Limits of a request.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Request limits")]
pub struct RequestLimits {
    /// Maximum number of images in a request
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_IMAGES_PER_REQUEST", default_value_t = 64)]
    pub max_images_per_request: usize,

    /// Maximum number of candidate answers of a question
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_CANDIDATES", default_value_t = 4096)]
    pub max_candidates: usize,

    /// Number of candidate answers of a question that are compared in full
    ///
    /// The model selects them by their first token.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__CANDIDATE_SHORTLIST", default_value_t = 128,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub candidate_shortlist: u32,

    /// Maximum number of beams, and of answers to one question
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_BEAMS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_beams: u32,

    /// Maximum number of generated tokens of an answer or a caption
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_NEW_TOKENS", default_value_t = 128,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_new_tokens: u32,

    /// Maximum number of questions in a request, of all its images together
    #[arg(
        long,
        value_name = "N",
        env = "BLIP_SERVE__LIMITS__MAX_QUESTIONS_PER_REQUEST",
        default_value_t = 1024
    )]
    pub max_questions_per_request: usize,

    /// Maximum size of an image file, in bytes
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__LIMITS__MAX_IMAGE_BYTES", default_value_t = 20 << 20)]
    pub max_image_bytes: usize,

    /// Maximum size of an image, in pixels
    ///
    /// The server reads the size from the header of the file before it decodes the image.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_IMAGE_PIXELS",
          default_value_t = images::Limits::default().max_pixels)]
    pub max_image_pixels: u64,

    /// Maximum width and height of an image, in pixels
    ///
    /// No JPEG is larger than the default. For each pixel of a side, the server caches some 16
    /// bytes of weights for scaling.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_IMAGE_SIDE_PIXELS",
          default_value_t = images::Limits::default().max_side)]
    pub max_image_side_pixels: u32,

    /// Maximum length of the text of a question, in bytes
    ///
    /// The model has a separate limit in tokens.
    #[arg(
        long,
        value_name = "BYTES",
        env = "BLIP_SERVE__LIMITS__MAX_QUESTION_BYTES",
        default_value_t = 4096
    )]
    pub max_question_bytes: usize,

    /// Maximum memory for responses that clients have not read, in bytes
    ///
    /// It is the memory of all clients together. A result that is not ready counts, too. A client
    /// that is alone may use 8/9. Several clients share it by their weights.
    #[arg(
        long,
        value_name = "BYTES",
        env = "BLIP_SERVE__LIMITS__MAX_UNREAD_RESPONSE_BYTES",
        default_value_t = 256 << 20
    )]
    pub max_unread_response_bytes: usize,

    /// Time limit of requests whose client sets no deadline, in seconds; 0 disables it
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__LIMITS__DEFAULT_DEADLINE_S",
        default_value_t = 600
    )]
    pub default_deadline_s: u64,
}

impl Default for RequestLimits {
    /// Returns the defaults. The environment has no effect.
    fn default() -> Self {
        defaults()
    }
}

impl RequestLimits {
    /// Returns the time limit of requests whose client sets no deadline.
    #[must_use]
    pub fn default_deadline(&self) -> Option<Duration> {
        (self.default_deadline_s > 0).then_some(Duration::from_secs(self.default_deadline_s))
    }
}
