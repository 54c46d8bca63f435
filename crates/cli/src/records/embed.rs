//! Vectors of images and texts, a call for each.

use bulk::{Fields, RecordResult, Task};
use proto::{EmbedRequest, blip_service_client::BlipServiceClient, embed_response};
use tonic::{Extensions, Request, Status, transport::Channel};

use crate::records::{image_loader::Pictures, record_text, response_fields};

/// Turns the `image` or the `text` of records into vectors.
#[derive(Debug)]
pub(crate) struct Embedding {
    pub(crate) channel: Channel,
    /// Signed.
    pub(crate) template: Request<()>,
    pub(crate) pictures: Pictures,
    /// What every request has: model, priority.
    pub(crate) request: EmbedRequest,
}

impl Embedding {
    async fn ask(&self, request: EmbedRequest, outcome: &mut Option<RecordResult>) -> Result<(), Status> {
        let metadata = self.template.metadata().clone();
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let mut client = BlipServiceClient::new(self.channel.clone());
        let mut responses = client.embed(request).await?.into_inner();
        while let Some(response) = responses.message().await? {
            *outcome = match response.outcome {
                Some(embed_response::Outcome::Embedding(vector)) => {
                    Some(RecordResult::Answered(response_fields::vector(&vector)))
                }
                Some(embed_response::Outcome::Error(error)) => {
                    Some(response_fields::refused(&error).map_err(Status::not_found)?)
                }
                None => None,
            };
        }
        Ok(())
    }

    async fn request(&self, record: &Fields) -> Result<EmbedRequest, Fields> {
        let mut request = self.request.clone();
        match record_text::text(record, "text")? {
            Some(text) => request.texts.push(text.to_owned()),
            None => request.images.push(self.pictures.of(record).await?),
        }
        Ok(request)
    }
}

impl Task for Embedding {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let mut outcomes = Vec::with_capacity(records.len());
        for record in &records {
            match self.request(record).await {
                Err(error) => outcomes.push(RecordResult::Failed(error)),
                Ok(request) => {
                    let mut outcome = None;
                    let end = self.ask(request, &mut outcome).await;
                    outcomes.extend(response_fields::with_rest(vec![outcome], end)?);
                }
            }
        }
        Ok(outcomes)
    }
}
