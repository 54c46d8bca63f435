//! Captions, a call for each image.

use bulk::{Fields, Outcome, Task};
use tonic::{Extensions, Request, Status, transport::Channel};

use super::{picture::Pictures, told, words::Lot};
use crate::proto::{
    CaptionRequest, CaptionResponse, ImagePrompts, blip_service_client::BlipServiceClient, caption_response,
};

/// Takes what has been written since the last piece.
pub(in crate::cli) type Piece = Box<dyn Fn(&Fields, &str) + Send + Sync>;

/// Describes the `image` of records, going on from `prompt` if there is one.
pub(in crate::cli) struct Captioning {
    pub(in crate::cli) channel: Channel,
    /// Signed.
    pub(in crate::cli) template: Request<()>,
    pub(in crate::cli) pictures: Pictures,
    /// What every request has: model, priority, options.
    pub(in crate::cli) request: CaptionRequest,
    /// Told of pieces, where they are wanted.
    pub(in crate::cli) piece: Option<Piece>,
}

impl Captioning {
    /// Settles what comes; an error is the call's status if it ended before all had come.
    async fn ask(&self, records: &[Fields], request: CaptionRequest, lot: &mut Lot) -> Result<(), Status> {
        let metadata = self.template.metadata().clone();
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let mut client = BlipServiceClient::new(self.channel.clone());
        let mut responses = client.caption(request).await?.into_inner();
        while let Some(CaptionResponse { prompt_index, outcome, .. }) = responses.message().await? {
            match outcome {
                Some(caption_response::Outcome::Caption(caption)) => {
                    lot.settle(prompt_index, Outcome::Answered(told::caption(&caption)));
                }
                Some(caption_response::Outcome::Error(error)) => {
                    lot.settle(prompt_index, told::refused(&error).map_err(Status::not_found)?);
                }
                Some(caption_response::Outcome::Piece(piece)) => {
                    let record = lot.position(prompt_index).and_then(|at| records.get(at));
                    if let (Some(take), Some(record)) = (&self.piece, record) {
                        take(record, &piece.text);
                    }
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Task for Captioning {
    async fn answer(&self, records: Vec<Fields>) -> Result<Vec<Outcome>, String> {
        let mut lot = Lot::of(&records, "prompt");
        let Some(first) = records.first().filter(|_| !lot.asked.is_empty()) else {
            return told::with_rest(lot.outcomes, Ok(()));
        };
        let image = match self.pictures.of(first).await {
            Ok(image) => image,
            Err(error) => return Ok(vec![Outcome::Failed(error); records.len()]),
        };
        let inputs = vec![ImagePrompts { image: Some(image), prompts: lot.texts() }];
        let end = self.ask(&records, CaptionRequest { inputs, ..self.request.clone() }, &mut lot).await;
        told::with_rest(lot.outcomes, end)
    }
}
