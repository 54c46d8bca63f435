//! Captions, one call for each image.

use bulk::{Fields, RecordResult, Task};
use proto::{CaptionRequest, ImagePrompts, caption_response::Outcome};

use crate::{
    connection::RpcClient,
    records::{
        classify_errors::classify_item_error, image_loader::ImageLoader, record_group::RecordGroup,
        response_fields::caption_fields,
    },
};

/// Receives each piece of a caption with its record.
pub(crate) type PieceSink = Box<dyn Fn(&Fields, &str) + Send + Sync>;

/// Captions the `image` of records. A caption continues their `prompt`, if they have one.
pub(crate) struct CaptionTask {
    pub(crate) client: RpcClient,
    pub(crate) images: ImageLoader,
    /// The fields that all requests share: model, priority and options.
    pub(crate) request: CaptionRequest,
    /// For a request that streams pieces.
    pub(crate) pieces: Option<PieceSink>,
}

impl Task for CaptionTask {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let group = RecordGroup::new(&records, "prompt");
        let image = match group.load_image(&self.images).await {
            Ok(image) => image,
            Err(results) => return Ok(results),
        };
        let inputs = vec![ImagePrompts { image: Some(image), prompts: group.texts() }];
        let request = self.client.request(CaptionRequest { inputs, ..self.request.clone() });
        let responses = self.client.stub().caption(request).await;
        let read = |group: &RecordGroup<'_>, response: proto::CaptionResponse| {
            let result = match response.outcome {
                Some(Outcome::Caption(caption)) => Some(RecordResult::Answered(caption_fields(&caption))),
                Some(Outcome::Error(error)) => Some(classify_item_error(&error)?),
                Some(Outcome::Piece(piece)) => {
                    if let (Some(pieces), Some(record)) = (&self.pieces, group.record(response.prompt_index))
                    {
                        pieces(record, &piece.text);
                    }
                    None
                }
                None => None,
            };
            Ok((response.prompt_index, result))
        };
        group.collect(responses, read).await
    }
}
