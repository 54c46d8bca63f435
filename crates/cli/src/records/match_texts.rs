//! How well texts describe images, a call for each image.

use bulk::{Fields, RecordResult, Task};
use proto::{
    ImageTexts, MatchRequest, MatchResponse, blip_service_client::BlipServiceClient, match_response,
};
use tonic::{Extensions, Request, Status, transport::Channel};

use crate::records::{image_loader::Pictures, record_text::RecordGroup, response_fields};

/// Compares the `image` of records with their `text`.
#[derive(Debug)]
pub(crate) struct Matching {
    pub(crate) channel: Channel,
    /// Signed.
    pub(crate) template: Request<()>,
    pub(crate) pictures: Pictures,
    /// What every request has: model, priority.
    pub(crate) request: MatchRequest,
}

impl Matching {
    async fn ask(&self, request: MatchRequest, lot: &mut RecordGroup) -> Result<(), Status> {
        let metadata = self.template.metadata().clone();
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let mut client = BlipServiceClient::new(self.channel.clone());
        let mut responses = client.r#match(request).await?.into_inner();
        while let Some(MatchResponse { text_index, outcome, .. }) = responses.message().await? {
            match outcome {
                Some(match_response::Outcome::Match(scores)) => {
                    lot.settle(text_index, RecordResult::Answered(response_fields::scores(&scores)));
                }
                Some(match_response::Outcome::Error(error)) => {
                    lot.settle(text_index, response_fields::refused(&error).map_err(Status::not_found)?);
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Task for Matching {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let mut lot = RecordGroup::of(&records, "text");
        let Some(first) = records.first().filter(|_| !lot.asked.is_empty()) else {
            return response_fields::with_rest(lot.outcomes, Ok(()));
        };
        let image = match self.pictures.of(first).await {
            Ok(image) => image,
            Err(error) => return Ok(vec![RecordResult::Failed(error); records.len()]),
        };
        let inputs = vec![ImageTexts { image: Some(image), texts: lot.texts() }];
        let end = self.ask(MatchRequest { inputs, ..self.request.clone() }, &mut lot).await;
        response_fields::with_rest(lot.outcomes, end)
    }
}
