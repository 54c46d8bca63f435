//! The results file: recall, and the best candidates.

use std::fmt;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commands::eval::retrieval::{
    pairs::RetrievalData,
    ranking::{PairLogits, RecallCounts, Scored, Similarities, rerank},
};

/// Number of candidates that the file has for each image and each text.
const LISTED_CANDIDATES: usize = 10;

/// The content of the results file.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RetrievalResults {
    /// Number of candidates that the matching head scored.
    k: usize,
    /// Recall of texts for images at 1, 5 and 10, in percent.
    image_to_text: [f64; 3],
    /// Recall of images for texts at 1, 5 and 10, in percent.
    text_to_image: [f64; 3],
    images: Vec<RankedImage>,
    texts: Vec<RankedText>,
}

/// An image with its best texts.
#[derive(Debug, Deserialize, Serialize)]
struct RankedImage {
    image: String,
    /// Positions in `texts`, with scores.
    texts: Vec<Scored>,
}

/// A text with its best images.
#[derive(Debug, Deserialize, Serialize)]
struct RankedText {
    text: String,
    /// The position of the image that the text describes, in `images`.
    image: usize,
    /// Positions in `images`, with scores.
    images: Vec<Scored>,
}

impl RetrievalResults {
    /// Ranks all candidates by their scores.
    pub(crate) fn new(
        data: &RetrievalData,
        similarities: &Similarities,
        logits: &PairLogits,
        k: usize,
    ) -> anyhow::Result<Self> {
        let owner = data.image_of_text();
        let (mut of_images, mut of_texts) = (RecallCounts::default(), RecallCounts::default());
        let mut images = Vec::with_capacity(data.images().len());
        for (at, (image, candidates)) in data.images().iter().zip(&similarities.texts_of_images).enumerate() {
            let ranked = rerank(candidates, |text| logits.get(&(at, text)).copied());
            anyhow::ensure!(
                ranked.len() == candidates.len(),
                "the image {image:?} lacks scores: use --force"
            );
            of_images.add(&ranked, |text| owner.get(text) == Some(&at));
            images.push(RankedImage { image: image.clone(), texts: best(ranked) });
        }
        let mut texts = Vec::with_capacity(data.texts().len());
        for (at, (text, candidates)) in data.texts().iter().zip(&similarities.images_of_texts).enumerate() {
            let ranked = rerank(candidates, |image| logits.get(&(image, at)).copied());
            anyhow::ensure!(ranked.len() == candidates.len(), "the text {text:?} lacks scores: use --force");
            let image = *owner.get(at).context("a text without image")?;
            of_texts.add(&ranked, |candidate| candidate == image);
            texts.push(RankedText { text: text.clone(), image, images: best(ranked) });
        }
        let (image_to_text, text_to_image) = (of_images.percent(), of_texts.percent());
        Ok(Self { k, image_to_text, text_to_image, images, texts })
    }

    /// Returns the metrics without the candidates.
    pub(crate) fn metrics(&self) -> Value {
        let recall = |[one, five, ten]: [f64; 3]| json!({"r1": one, "r5": five, "r10": ten});
        json!({
            "images": self.images.len(),
            "texts": self.texts.len(),
            "k": self.k,
            "image_to_text": recall(self.image_to_text),
            "text_to_image": recall(self.text_to_image),
            "mean": self.mean(),
        })
    }

    /// Returns the mean of the six numbers.
    fn mean(&self) -> f64 {
        self.image_to_text.iter().chain(&self.text_to_image).sum::<f64>() / 6.0
    }
}

fn best(mut ranked: Vec<Scored>) -> Vec<Scored> {
    ranked.truncate(LISTED_CANDIDATES);
    ranked
}

impl fmt::Display for RetrievalResults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<14} {:>7} {:>7} {:>7}", "recall", "R@1", "R@5", "R@10")?;
        for (name, [one, five, ten]) in
            [("image to text", self.image_to_text), ("text to image", self.text_to_image)]
        {
            writeln!(formatter, "{name:<14} {one:>6.2}% {five:>6.2}% {ten:>6.2}%")?;
        }
        writeln!(
            formatter,
            "mean {:.2}%, {} images, {} texts, k {}",
            self.mean(),
            self.images.len(),
            self.texts.len(),
            self.k
        )
    }
}
