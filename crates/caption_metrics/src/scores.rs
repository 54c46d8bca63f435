//! The scores of a corpus of captions.

use std::fmt;

use crate::{
    bleu::BleuCounts,
    cider_d::DocumentFrequency,
    rouge_l::rouge_l,
    tokenizer::{TokenizerError, tokenize},
};

/// A caption and the references of its image, as people wrote them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoredImage {
    /// The caption that is scored.
    pub caption: String,
    /// The captions of people. An image without references does not count.
    pub references: Vec<String>,
}

/// The scores of a corpus. Each is from 0 to 1, and CIDEr-D from 0 to 10.
///
/// Its text form is a table of the scores in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptionScores {
    /// Number of images that count.
    pub images: usize,
    /// BLEU-1 to BLEU-4.
    pub bleu: [f64; 4],
    /// The mean ROUGE-L.
    pub rouge_l: f64,
    /// The mean CIDEr-D.
    pub cider_d: f64,
}

impl CaptionScores {
    /// Tokenizes the captions and computes the scores. Without images, all scores are 0.
    ///
    /// The order of the images matters as in the reference: the end of a caption can depend on the
    /// next one, see [`tokenize`].
    ///
    /// # Errors
    /// A rule of the tokenizer cannot be compiled.
    ///
    /// # Example
    /// ```
    /// use caption_metrics::{CaptionScores, ScoredImage};
    ///
    /// let image = |caption: &str, reference: &str| ScoredImage {
    ///     caption: caption.to_owned(),
    ///     references: vec![reference.to_owned()],
    /// };
    /// let images = [
    ///     image("a cat on a red mat", "A cat on a red mat."),
    ///     image("two dogs run on grass", "Two dogs run on grass!"),
    /// ];
    /// let scores = CaptionScores::new(&images)?;
    /// assert!((scores.bleu[3] - 1.0).abs() < 1e-6);
    /// # Ok::<(), caption_metrics::TokenizerError>(())
    /// ```
    pub fn new(images: &[ScoredImage]) -> Result<Self, TokenizerError> {
        let images: Vec<&ScoredImage> = images.iter().filter(|image| !image.references.is_empty()).collect();
        let captions = tokenize(images.iter().map(|image| image.caption.as_str()))?;
        let all = images.iter().flat_map(|image| image.references.iter().map(String::as_str));
        let mut references = tokenize(all)?.into_iter();
        let tokenized: Vec<(String, Vec<String>)> = captions
            .into_iter()
            .zip(&images)
            .map(|(caption, image)| (caption, references.by_ref().take(image.references.len()).collect()))
            .collect();

        let (mut bleu, mut rouge) = (BleuCounts::default(), 0.0);
        let mut frequency = DocumentFrequency::default();
        for (caption, references) in &tokenized {
            bleu.add(caption, references);
            rouge += rouge_l(caption, references).unwrap_or_default();
            frequency.add(references);
        }
        let cider: f64 =
            tokenized.iter().map(|(caption, references)| frequency.score(caption, references)).sum();
        let count = tokenized.len();
        let mean = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
        let bleu = if count == 0 { [0.0; 4] } else { bleu.scores() };
        Ok(Self { images: count, bleu, rouge_l: mean(rouge), cider_d: mean(cider) })
    }

    /// Returns each score with the name that `pycocoevalcap` gives it.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 6] {
        let [bleu_1, bleu_2, bleu_3, bleu_4] = self.bleu;
        [
            ("Bleu_1", bleu_1),
            ("Bleu_2", bleu_2),
            ("Bleu_3", bleu_3),
            ("Bleu_4", bleu_4),
            ("ROUGE_L", self.rouge_l),
            ("CIDEr", self.cider_d),
        ]
    }
}

impl fmt::Display for CaptionScores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<8} {:>8}", "metric", "percent")?;
        for (name, score) in self.named() {
            writeln!(formatter, "{:<8} {:>8.2}", name.replace('_', "-"), 100.0 * score)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_without_images_scores_zero() {
        assert_eq!(CaptionScores::new(&[]).unwrap(), CaptionScores::default());
        let image = ScoredImage { caption: "a cat".to_owned(), references: Vec::new() };
        assert_eq!(CaptionScores::new(&[image]).unwrap(), CaptionScores::default());
    }

    #[test]
    fn table_has_a_line_for_each_score() {
        let scores = CaptionScores { images: 1, bleu: [0.5; 4], rouge_l: 0.25, cider_d: 1.336 };
        let table = scores.to_string();
        assert_eq!(table.lines().count(), 7);
        assert!(table.contains("Bleu-4      50.00\n") && table.contains("CIDEr      133.60\n"), "{table}");
    }
}
