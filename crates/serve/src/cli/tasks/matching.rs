//! How well texts describe images, a call for each image.

use bulk::{Fields, Outcome, Task};
use tonic::{Extensions, Request, Status, transport::Channel};

use super::{picture::Pictures, told, words::Lot};
use crate::proto::{
    ImageTexts, MatchRequest, MatchResponse, blip_service_client::BlipServiceClient, match_response,
};

/// Compares the `image` of records with their `text`.
#[derive(Debug)]
pub(in crate::cli) struct Matching {
    pub(in crate::cli) channel: Channel,
    /// Signed.
    pub(in crate::cli) template: Request<()>,
    pub(in crate::cli) pictures: Pictures,
    /// What every request has: model, priority.
    pub(in crate::cli) request: MatchRequest,
}

impl Matching {
    async fn ask(&self, request: MatchRequest, lot: &mut Lot) -> Result<(), Status> {
        let metadata = self.template.metadata().clone();
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let mut client = BlipServiceClient::new(self.channel.clone());
        let mut responses = client.r#match(request).await?.into_inner();
        while let Some(MatchResponse { text_index, outcome, .. }) = responses.message().await? {
            match outcome {
                Some(match_response::Outcome::Match(scores)) => {
                    lot.settle(text_index, Outcome::Answered(told::scores(&scores)));
                }
                Some(match_response::Outcome::Error(error)) => {
                    lot.settle(text_index, told::refused(&error).map_err(Status::not_found)?);
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Task for Matching {
    async fn answer(&self, records: Vec<Fields>) -> Result<Vec<Outcome>, String> {
        let mut lot = Lot::of(&records, "text");
        let Some(first) = records.first().filter(|_| !lot.asked.is_empty()) else {
            return told::with_rest(lot.outcomes, Ok(()));
        };
        let image = match self.pictures.of(first).await {
            Ok(image) => image,
            Err(error) => return Ok(vec![Outcome::Failed(error); records.len()]),
        };
        let inputs = vec![ImageTexts { image: Some(image), texts: lot.texts() }];
        let end = self.ask(MatchRequest { inputs, ..self.request.clone() }, &mut lot).await;
        told::with_rest(lot.outcomes, end)
    }
}
