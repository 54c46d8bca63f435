//! `blip-serve eval retrieval`.
//!
//! Embeddings of all images and texts select the candidates of each image and each text. The
//! matching head then scores the candidates.

mod embeddings;
mod matching;
mod results;
mod ranking;
mod pairs;

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use bulk::ExistingFile;
use clap::{Args, ValueHint};

use crate::{
    commands::{
        eval::{
            json_file::{read_json, write_json},
            partial_results::PartialResults,
            protocol::Protocol,
            results_file::{partial_file, refuse_existing},
            retrieval::{
                embeddings::Embeddings, matching::RerankTask, pairs::RetrievalData, ranking::Similarities,
                results::RetrievalResults,
            },
        },
        record_file::RunArgs,
    },
    connection::RpcClient,
    records::{EmbedTask, ImageLoader, MatchTask},
    target::{DefaultModel, TargetArgs},
};

/// Compute recall of image-text retrieval
///
/// The data set is that of Karpathy's splits, such as dataset_flickr30k.json, or a list of images
/// with captions: [{"image": "a.jpg", "caption": ["a cat", "one cat"]}]. The embeddings of images
/// and texts select candidates by cosine. The score of a candidate is its cosine plus the logit of
/// the matching head, as in the evaluation of BLIP.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve eval retrieval --data dataset_flickr30k.json --images flickr30k-images \\
      --results retrieval.json --protocol paper
  blip-serve eval retrieval --data test.json --images photos --results retrieval.json -k 64 --local")]
pub(crate) struct RetrievalCommand {
    /// File of images and their texts
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    data: PathBuf,

    /// Split of the file [default: test]
    ///
    /// A list of images with captions has no splits.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,

    /// Folder of the images
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    images: PathBuf,

    /// Output file of the metrics and the best candidates
    ///
    /// Until it is complete, results are in files with the suffixes .embeddings.partial.jsonl and
    /// .matching.partial.jsonl.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    results: PathBuf,

    /// Number of candidates that the matching head scores [default: 128, and 256 for COCO]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    k: Option<u32>,

    /// Settings by one name: those of the BLIP paper
    ///
    /// Texts are in lower case, without some punctuation, and have at most 30 words.
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,

    /// Print the metrics as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    run: RunArgs,

    #[command(flatten)]
    target: TargetArgs,
}

impl RetrievalCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let exists = refuse_existing(&self.results, self.run.existing())?;
        if !exists || self.run.existing() != ExistingFile::Resume {
            let mut data = RetrievalData::read(&self.data, self.split.as_deref())?;
            if let Some(Protocol::Paper) = self.protocol {
                data.normalize_texts();
            }
            data.check_images(&self.images, &self.data)?;
            let rank = async |client: RpcClient| self.rank(client, &data).await;
            let exit = self.target.run(None, DefaultModel::Match, variables, rank).await?;
            if exit != Exit::Clean {
                return Ok(exit);
            }
        }
        let results: RetrievalResults = read_json(&self.results)?;
        let mut out = std::io::stdout();
        if self.json {
            writeln!(out, "{}", results.metrics()).context("cannot print")?;
        } else {
            write!(out, "{results}").context("cannot print")?;
        }
        Ok(Exit::Clean)
    }

    /// Writes the results file.
    async fn rank(&self, client: RpcClient, data: &RetrievalData) -> anyhow::Result<Exit> {
        let k = self.k.map_or_else(|| data.default_k(), |k| usize::try_from(k).unwrap_or(usize::MAX));
        let images = ImageLoader { folder: Some(self.images.as_path().into()) };
        let (model, priority) = (self.target.model_name(), self.target.priority());

        let partial = PartialResults::new(partial_file(&self.results, ".embeddings"));
        let request = proto::EmbedRequest { model: model.clone(), priority, ..Default::default() };
        let task =
            EmbedTask { client: client.clone(), images: images.clone(), request, prefers_images: false };
        let total = data.images().len() + data.texts().len();
        let (exit, is_complete) = partial
            .complete(&self.run, &task, ["embedding", "images and texts"], total, embeddings::records(data))
            .await?;
        if !is_complete {
            return Ok(exit);
        }
        let Some(embeddings) = Embeddings::read(&partial, data).await? else { return Ok(Exit::Failed) };
        let similarities = Similarities::new(&embeddings.images, &embeddings.texts, k);

        let matched = PartialResults::new(partial_file(&self.results, ".matching"));
        let request = proto::MatchRequest { model, priority, ..Default::default() };
        let task = RerankTask { matching: MatchTask { client, images, request }, texts: data.texts() };
        let records = matching::records(data, &similarities);
        let total = records.len();
        let (exit, is_complete) = matched
            .complete(&self.run, &task, ["matching", "groups of pairs"], total, records.into_iter())
            .await?;
        if !is_complete {
            return Ok(exit);
        }
        let Some(logits) = matching::read_logits(&matched).await? else { return Ok(Exit::Failed) };
        let results = RetrievalResults::new(data, &similarities, &logits, k)?;
        write_json(&self.results, &results)?;
        partial.remove()?;
        matched.remove()?;
        Ok(Exit::Clean)
    }
}
