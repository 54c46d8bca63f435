//! `blip-serve eval caption`.

mod annotations;
mod results;

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use blip_server::{request::generation::GenerationOptions, serve::exit::Exit};
use bulk::ExistingFile;
use caption_metrics::CaptionScores;
use clap::{Args, ValueHint};
use proto::CaptionRequest;
use serde_json::json;

use crate::{
    commands::{
        eval::{
            caption::{annotations::CaptionData, results::CaptionResult},
            image_pattern::ImagePattern,
            json_file::{read_json, write_json},
            partial_results::PartialResults,
            protocol::Protocol,
            results_file::{partial_file, refuse_existing},
        },
        record_file::RunArgs,
    },
    connection::RpcClient,
    messages::print_message,
    records::{CaptionTask, ImageLoader},
    request_args::generation_message,
    target::{DefaultModel, TargetArgs},
};

/// The prompt of the paper.
const PAPER_PROMPT: &str = "a picture of ";

/// Compute BLEU, ROUGE-L and CIDEr-D of captions on a data set in COCO's format
///
/// The annotations are those of COCO captions: images, and captions that people wrote. The metrics
/// equal those of pycocoevalcap. Without annotations of images, such as those of test sets, the
/// command writes the results file only.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve eval caption --annotations captions_val2014.json --images val2014 \\
      --results captions.json
  blip-serve eval caption --annotations coco_karpathy_test_gt.json --images val2014 \\
      --image-pattern 'COCO_val2014_{image_id:012}.jpg' --results captions.json --protocol paper")]
pub(crate) struct CaptionEvalCommand {
    /// File of images and their captions
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    annotations: PathBuf,

    /// Folder of the images
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    images: PathBuf,

    /// Name of image files; {image_id} stands for the number of an image
    ///
    /// {image_id:012} is the number in 12 digits. [default: the field file_name of the image]
    #[arg(long, value_name = "PATTERN")]
    image_pattern: Option<ImagePattern>,

    /// Output file of the captions, in the format of the leaderboard
    ///
    /// Until all captions are available, they are in a file with the suffix .partial.jsonl.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    results: PathBuf,

    /// Beginning of each caption, which the results file leaves out
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,

    /// Settings by one name: those of the BLIP paper
    ///
    /// The paper uses beam search with 3 hypotheses, the prompt "a picture of ", and 5 to 20 tokens
    /// with start token and prompt. Options that are given as well replace single settings.
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,

    /// Print the metrics as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    run: RunArgs,

    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    generation: GenerationOptions,
}

impl CaptionEvalCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let exists = refuse_existing(&self.results, self.run.existing())?;
        let data = CaptionData::read(&self.annotations, self.image_pattern.as_ref())?;
        let mut exit = Exit::Clean;
        if !exists || self.run.existing() != ExistingFile::Resume {
            let caption = async |client| self.caption(client, &data).await;
            exit = self.target.run(None, DefaultModel::Caption, variables, caption).await?;
        }
        if let Exit::Signal(_) = exit {
            return Ok(exit);
        }
        if data.has_captions() {
            self.print_scores(&data)?;
        } else {
            print_message(&format!(
                "{} has no captions: metrics are not computed",
                self.annotations.display()
            ));
        }
        Ok(exit)
    }

    /// Writes the results file.
    async fn caption(&self, client: RpcClient, data: &CaptionData) -> anyhow::Result<Exit> {
        let request = CaptionRequest {
            model: self.target.model_name(),
            priority: self.target.priority(),
            generation: generation_message(self.generation()),
            ..CaptionRequest::default()
        };
        let images = ImageLoader { folder: Some(self.images.as_path().into()) };
        let task = CaptionTask { client, images, request, pieces: None };
        let partial = PartialResults::new(partial_file(&self.results, ""));
        let prompt = self.prompt();
        let records = data.records(prompt);
        let (exit, is_complete) =
            partial.complete(&self.run, &task, ["captioning", "images"], data.len(), records).await?;
        if is_complete {
            let mut results = Vec::new();
            partial
                .read(|fields| {
                    results.push(CaptionResult::new(fields, prompt)?);
                    Ok(())
                })
                .await?;
            write_json(&self.results, &results)?;
            partial.remove()?;
        }
        Ok(exit)
    }

    fn print_scores(&self, data: &CaptionData) -> anyhow::Result<()> {
        let results: Vec<CaptionResult> = read_json(&self.results)?;
        let pairs = data.pair(&results).with_context(|| format!("invalid {}", self.results.display()))?;
        let scores = CaptionScores::new(&pairs)?;
        let mut out = std::io::stdout();
        if self.json {
            let named: serde_json::Map<_, _> =
                scores.named().into_iter().map(|(name, score)| (name.to_owned(), json!(score))).collect();
            return writeln!(out, "{}", json!({"images": scores.images, "scores": named}))
                .context("cannot print");
        }
        let others = data.len().saturating_sub(scores.images);
        write!(out, "{scores}").context("cannot print")?;
        writeln!(out, "{} images", scores.images).context("cannot print")?;
        if others > 0 {
            writeln!(out, "{others} images have no annotation or no result").context("cannot print")?;
        }
        Ok(())
    }

    fn prompt(&self) -> Option<&str> {
        let of_protocol = self.protocol.map(|Protocol::Paper| PAPER_PROMPT);
        self.prompt.as_deref().or(of_protocol)
    }

    /// Returns the generation options, completed by those of the protocol.
    fn generation(&self) -> GenerationOptions {
        let options = self.generation;
        match self.protocol {
            None => options,
            Some(Protocol::Paper) => GenerationOptions {
                // The paper allows 20 tokens. 4 of them are the start token and the prompt.
                max_new_tokens: options.max_new_tokens.or(Some(16)),
                min_length: options.min_length.or(Some(5)),
                num_beams: options.num_beams.or(Some(3)),
                length_penalty: options.length_penalty.or(Some(1.0)),
                repetition_penalty: options.repetition_penalty.or(Some(1.0)),
                ..options
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        command: CaptionEvalCommand,
    }

    fn command(options: &str) -> CaptionEvalCommand {
        let line = format!("eval --annotations a.json --images i --results r.json {options}");
        Line::try_parse_from(line.split_whitespace()).unwrap().command
    }

    #[test]
    fn protocol_sets_options_that_are_not_given() {
        assert_eq!(command("").generation(), GenerationOptions::default());
        assert_eq!(command("").prompt(), None);
        let paper = command("--protocol paper");
        let options = paper.generation();
        assert_eq!(
            (options.num_beams, options.max_new_tokens, options.min_length),
            (Some(3), Some(16), Some(5))
        );
        assert_eq!(paper.prompt(), Some("a picture of "));
        let other = command("--protocol paper --num-beams 5 --prompt photo");
        assert_eq!((other.generation().num_beams, other.generation().min_length), (Some(5), Some(5)));
        assert_eq!(other.prompt(), Some("photo"));
    }
}
