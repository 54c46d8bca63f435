//! Embeddings of the images and texts of a data set.

use anyhow::Context as _;
use bulk::Fields;
use serde_json::{Value, json};

use crate::{
    commands::eval::{partial_results::PartialResults, retrieval::pairs::RetrievalData},
    messages::print_message,
};

/// The embedding of each image and of each text.
#[derive(Debug)]
pub(crate) struct Embeddings {
    pub(crate) images: Vec<Vec<f32>>,
    pub(crate) texts: Vec<Vec<f32>>,
}

/// Returns a record for each image, and then one for each text.
pub(crate) fn records(data: &RetrievalData) -> impl Iterator<Item = Fields> + Send + '_ {
    let record = |kind: &'static str| {
        move |(at, value): (usize, &String)| -> Fields {
            [("id".to_owned(), json!(format!("{kind} {at}"))), (kind.to_owned(), json!(value))]
                .into_iter()
                .collect()
        }
    };
    let images = data.images().iter().enumerate().map(record("image"));
    images.chain(data.texts().iter().enumerate().map(record("text")))
}

impl Embeddings {
    /// Reads the results of [`records`]. If one has failed, prints the errors and returns `None`.
    pub(crate) async fn read(results: &PartialResults, data: &RetrievalData) -> anyhow::Result<Option<Self>> {
        let mut all = Vec::with_capacity(data.images().len() + data.texts().len());
        let failed = results
            .read(|fields| {
                if !fields.contains_key("error") {
                    let values = fields.get("embedding").cloned().unwrap_or(Value::Null);
                    all.push(serde_json::from_value::<Vec<f32>>(values).context("embedding")?);
                }
                Ok(())
            })
            .await?;
        if failed > 0 {
            print_message(&format!(
                "{failed} images or texts have no embedding: remove their cause, and use --force"
            ));
            return Ok(None);
        }
        anyhow::ensure!(
            all.len() == data.images().len() + data.texts().len(),
            "{} belongs to another data set: use --force",
            results.path().display()
        );
        let texts = all.split_off(data.images().len());
        Ok(Some(Self { images: all, texts }))
    }
}
