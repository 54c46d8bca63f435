//! Captions, a call for each image.

use bulk::{Fields, RecordResult, Task};
use proto::{
    CaptionRequest, CaptionResponse, ImagePrompts, blip_service_client::BlipServiceClient, caption_response,
};
use tonic::{Extensions, Request, Status, transport::Channel};

use crate::records::{image_loader::Pictures, record_text::RecordGroup, response_fields};

/// Takes what has been written since the last piece.
pub(crate) type Piece = Box<dyn Fn(&Fields, &str) + Send + Sync>;

/// Describes the `image` of records, going on from `prompt` if there is one.
pub(crate) struct Captioning {
    pub(crate) channel: Channel,
    /// Signed.
    pub(crate) template: Request<()>,
    pub(crate) pictures: Pictures,
    /// What every request has: model, priority, options.
    pub(crate) request: CaptionRequest,
    /// Told of pieces, where they are wanted.
    pub(crate) piece: Option<Piece>,
}

impl Captioning {
    /// Settles what comes; an error is the call's status if it ended before all had come.
    async fn ask(
        &self,
        records: &[Fields],
        request: CaptionRequest,
        lot: &mut RecordGroup,
    ) -> Result<(), Status> {
        let metadata = self.template.metadata().clone();
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let mut client = BlipServiceClient::new(self.channel.clone());
        let mut responses = client.caption(request).await?.into_inner();
        while let Some(CaptionResponse { prompt_index, outcome, .. }) = responses.message().await? {
            match outcome {
                Some(caption_response::Outcome::Caption(caption)) => {
                    lot.settle(prompt_index, RecordResult::Answered(response_fields::caption(&caption)));
                }
                Some(caption_response::Outcome::Error(error)) => {
                    lot.settle(prompt_index, response_fields::refused(&error).map_err(Status::not_found)?);
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
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let mut lot = RecordGroup::of(&records, "prompt");
        let Some(first) = records.first().filter(|_| !lot.asked.is_empty()) else {
            return response_fields::with_rest(lot.outcomes, Ok(()));
        };
        let image = match self.pictures.of(first).await {
            Ok(image) => image,
            Err(error) => return Ok(vec![RecordResult::Failed(error); records.len()]),
        };
        let inputs = vec![ImagePrompts { image: Some(image), prompts: lot.texts() }];
        let end = self.ask(&records, CaptionRequest { inputs, ..self.request.clone() }, &mut lot).await;
        response_fields::with_rest(lot.outcomes, end)
    }
}
